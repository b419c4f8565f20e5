-- Outputs that pass the fence, their runs and tasks locked. `unless_locked` is nothing, or unless_locked.sql.
result AS (
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
