-- Tasks of failed runs that are still `started`: cores before 0.15 leave the siblings of a failed task so. Those of workers
-- that are gone, and of this worker itself, which knows which of them it still runs. The index on the started tasks of a
-- worker finds them; without an end they would be read by every look at what a worker holds.
SELECT t.run_id, t.step_slug, t.task_index, t.message_id AS msg_id, t.last_worker_id = $2::uuid AS is_own
FROM pgflow.step_tasks AS t
JOIN pgflow.runs AS r ON r.run_id = t.run_id AND r.status = 'failed'
LEFT JOIN flowworker.workers AS w ON w.worker_id = t.last_worker_id
WHERE t.flow_slug = $1::text
    AND t.status = 'started'
    AND (t.last_worker_id = $2::uuid OR t.last_worker_id IS NULL OR w.state IN ('lost', 'stopped'))
ORDER BY t.started_at
LIMIT $3::integer
