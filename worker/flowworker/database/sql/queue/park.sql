-- Puts off the message at the head of a queue that could not be claimed, so that those behind it go on, and longer each
-- time: $1 seconds, four times as many, at most $3. The reason is kept in its headers, unless these belong to others.
WITH head AS MATERIALIZED (
    SELECT q.msg_id, {parks} AS parks, least($1::double precision * 4.0 ^ least({parks}, 10), $3::double precision) AS seconds
    FROM {queue_table} AS q
    WHERE q.vt <= clock_timestamp() AND q.msg_id <> ALL($4::bigint[])
    ORDER BY {order}
    LIMIT 1
    FOR UPDATE OF q SKIP LOCKED
)
UPDATE {queue_table} AS q
SET vt = clock_timestamp() + make_interval(secs => head.seconds),
    headers = CASE WHEN jsonb_typeof(q.headers) NOT IN ('object', 'null') THEN q.headers ELSE
        CASE jsonb_typeof(q.headers) WHEN 'object' THEN q.headers ELSE '{}' END
        || jsonb_build_object('flowworker', {ours} || jsonb_build_object('parked', $2::text, 'parks', head.parks + 1))
    END
FROM head
WHERE q.msg_id = head.msg_id
RETURNING q.msg_id, head.seconds
