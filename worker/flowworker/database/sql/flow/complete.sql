-- Writes outputs behind the fence. The inner ORDER BY … OFFSET 0 makes the fenced rows be fetched, and locked, before
-- the first call changes a run: pulled one by one, LockRows would skip the other rows of that run. The order keeps
-- overlapping batches from deadlocking. `unless_locked` is nothing, or unless_locked.sql.
WITH result AS (
    SELECT *
    FROM unnest($2::uuid[], $3::text[], $4::integer[], $5::integer[], $6::timestamptz[], $7::jsonb[])
        WITH ORDINALITY AS r(run_id, step_slug, task_index, attempt, started_at, output, position)
),
fenced AS MATERIALIZED (
    SELECT result.position, result.run_id, result.step_slug, result.task_index, result.output
    FROM result
    JOIN pgflow.runs AS r ON r.run_id = result.run_id
    JOIN pgflow.step_tasks AS t
        ON t.run_id = result.run_id AND t.step_slug = result.step_slug AND t.task_index = result.task_index
    WHERE r.status = 'started'
        AND t.status = 'started'
        AND t.last_worker_id = $1::uuid
        AND t.attempts_count = result.attempt
        AND t.started_at = result.started_at
    ORDER BY result.run_id
    FOR UPDATE OF r, t {unless_locked}
)
SELECT f.position::integer, done.status, done.error_message AS error, NULL::double precision AS retry_in, now() AS written_at
FROM (SELECT * FROM fenced ORDER BY run_id, step_slug, task_index OFFSET 0) AS f
LEFT JOIN LATERAL pgflow.complete_task(f.run_id, f.step_slug, f.task_index, f.output) AS done ON true
