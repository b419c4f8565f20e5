-- What became of results that a finishing statement did not answer: written by an earlier try whose reply was lost,
-- ended by a type violation, superseded, or left out because another transaction has locked them.
SELECT
    result.position::integer,
    t.status,
    r.status AS run_status,
    t.error_message AS error,
    t.attempts_count AS attempt,
    t.last_worker_id AS worker_id,
    t.started_at,
    coalesce(t.completed_at, t.failed_at) AS written_at
FROM unnest($1::uuid[], $2::text[], $3::integer[]) WITH ORDINALITY AS result(run_id, step_slug, task_index, position)
JOIN pgflow.step_tasks AS t
    ON t.run_id = result.run_id AND t.step_slug = result.step_slug AND t.task_index = result.task_index
JOIN pgflow.runs AS r ON r.run_id = t.run_id
