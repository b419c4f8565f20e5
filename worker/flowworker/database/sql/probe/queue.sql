-- The messages of one queue that a probe looks at: those that are visible and those that are due next, oldest first.
(
    SELECT {position} AS position, q.msg_id, q.vt, q.read_ct, q.message, q.headers
    FROM {queue_table} AS q
    WHERE q.vt <= now()
    ORDER BY q.vt
    LIMIT ($3::bigint[])[{position}] + $8::bigint
)
UNION ALL
(
    SELECT {position}, q.msg_id, q.vt, q.read_ct, q.message, q.headers
    FROM {queue_table} AS q
    WHERE q.vt > now()
    ORDER BY q.vt
    LIMIT ($3::bigint[])[{position}] + $8::bigint
)
