-- When the tasks of a flow were completed, since a moment.
SELECT t.completed_at AS moment /* flowworker-bench */
FROM pgflow.step_tasks AS t
WHERE t.flow_slug = $1::text AND t.status = 'completed' AND t.queued_at >= $2::timestamptz
ORDER BY t.completed_at
