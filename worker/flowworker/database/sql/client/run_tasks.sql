-- Tasks of a run, those that need attention first: a map may have thousands, so the caller limits them.
SELECT
    t.step_slug,
    t.task_index,
    t.status,
    t.attempts_count AS attempts,
    t.error_message AS error,
    t.output::text AS output,
    t.queued_at,
    t.started_at,
    t.completed_at,
    t.failed_at,
    t.last_worker_id AS worker_id
FROM pgflow.step_tasks AS t
INNER JOIN pgflow.steps AS d ON d.flow_slug = t.flow_slug AND d.step_slug = t.step_slug
WHERE t.run_id = $1
ORDER BY
    CASE t.status WHEN 'failed' THEN 0 WHEN 'started' THEN 1 WHEN 'queued' THEN 2 ELSE 3 END,
    d.step_index,
    t.task_index
LIMIT $2
