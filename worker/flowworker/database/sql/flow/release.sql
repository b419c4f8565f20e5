-- Gives tasks back behind the fence: queued, the attempt not charged, visible after `wait` seconds, and sleepers woken on
-- pgmq's own channel in the same transaction. `losses` counts in the message's headers how often a worker died holding it.
WITH result AS (
    SELECT *
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::integer[], $6::timestamptz[], $7::integer[], $8::double precision[])
        WITH ORDINALITY AS r(worker_id, run_id, step_slug, task_index, attempt, started_at, losses, wait, position)
),
fenced AS MATERIALIZED (
    SELECT result.position, result.run_id, result.step_slug, result.task_index, result.losses, result.wait
    FROM result
    JOIN pgflow.runs AS r ON r.run_id = result.run_id
    JOIN pgflow.step_tasks AS t
        ON t.run_id = result.run_id AND t.step_slug = result.step_slug AND t.task_index = result.task_index
    WHERE r.status = 'started'
        AND t.status = 'started'
        AND t.last_worker_id IS NOT DISTINCT FROM result.worker_id
        AND t.attempts_count = result.attempt
        AND t.started_at = result.started_at
    ORDER BY result.run_id
    FOR UPDATE OF r, t {unless_locked}
),
queued AS (
    UPDATE pgflow.step_tasks AS t
    SET status = 'queued', started_at = NULL, last_worker_id = NULL, attempts_count = greatest(t.attempts_count - 1, 0)
    FROM (SELECT * FROM fenced ORDER BY run_id, step_slug, task_index OFFSET 0) AS f
    WHERE t.run_id = f.run_id AND t.step_slug = f.step_slug AND t.task_index = f.task_index
    RETURNING f.position, t.message_id, f.losses, f.wait
),
visible AS (
    UPDATE {queue_table} AS q
    SET vt = clock_timestamp() + make_interval(secs => queued.wait),
        headers = CASE WHEN queued.losses = 0 THEN q.headers ELSE
            CASE jsonb_typeof(q.headers) WHEN 'object' THEN q.headers ELSE '{}' END
            || jsonb_build_object('flowworker', jsonb_build_object('losses', queued.losses))
        END
    FROM queued
    WHERE q.msg_id = queued.message_id
    RETURNING q.msg_id
),
sent AS (
    SELECT pg_notify($9::text, '') FROM visible LIMIT 1
)
SELECT queued.position::integer, 'released' AS status, NULL::text AS error, NULL::double precision AS retry_in, now() AS written_at, notified.count
FROM queued CROSS JOIN (SELECT count(*) FROM sent) AS notified
