-- The visible message that became due first, but for those given.
SELECT q.msg_id
FROM {queue_table} AS q
WHERE q.vt <= clock_timestamp() AND q.msg_id <> ALL($1::bigint[])
ORDER BY q.vt
LIMIT 1
