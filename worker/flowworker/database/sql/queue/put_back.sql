-- Puts jobs back behind the fence (see archive.sql), visible after a delay, and counts why in the headers. Where a job is
-- visible at once, sleepers are woken on pgmq's own channel in the same transaction.
WITH result AS (
    SELECT r.*
    FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[], $4::jsonb[], $5::double precision[])
        AS r(msg_id, read_ct, enqueued_at, ours, delay)
    {unless_locked}
),
fenced AS MATERIALIZED (
    SELECT q.msg_id, result.ours, result.delay
    FROM result
    JOIN {queue_table} AS q
        ON q.msg_id = result.msg_id AND q.read_ct = result.read_ct AND q.enqueued_at = result.enqueued_at
    ORDER BY q.msg_id
    FOR UPDATE OF q
),
back AS (
    UPDATE {queue_table} AS q
    SET vt = clock_timestamp() + make_interval(secs => fenced.delay),
        headers = CASE jsonb_typeof(q.headers) WHEN 'object' THEN q.headers ELSE '{}' END
            || jsonb_build_object('flowworker', (CASE jsonb_typeof(q.headers -> 'flowworker') WHEN 'object' THEN q.headers -> 'flowworker' ELSE '{}' END || fenced.ours) - ARRAY['holder', 'claimed_at'])
    FROM fenced
    WHERE q.msg_id = fenced.msg_id
    RETURNING q.msg_id, fenced.delay
),
sent AS (
    SELECT pg_notify($6::text, '') FROM back WHERE back.delay = 0 LIMIT 1
)
SELECT back.msg_id, notified.count FROM back CROSS JOIN (SELECT count(*) FROM sent) AS notified
