-- Puts off messages that are not startable now, unless another session has changed their visibility since we read them.
WITH wanted AS (
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::double precision[]) AS w(msg_id, vt, seconds)
),
untouched AS (
    SELECT q.msg_id, wanted.seconds
    FROM {queue_table} AS q JOIN wanted ON wanted.msg_id = q.msg_id AND wanted.vt = q.vt
    FOR UPDATE OF q SKIP LOCKED
)
UPDATE {queue_table} AS q
SET vt = clock_timestamp() + make_interval(secs => untouched.seconds)
FROM untouched
WHERE q.msg_id = untouched.msg_id
