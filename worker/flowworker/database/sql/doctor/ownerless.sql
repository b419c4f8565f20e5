-- Started tasks of running flows whose worker is gone for good, per flow.
SELECT task.flow_slug, count(*) AS tasks
FROM pgflow.step_tasks AS task
JOIN pgflow.runs AS run USING (run_id)
LEFT JOIN flowworker.workers AS worker ON worker.worker_id = task.last_worker_id
WHERE task.status = 'started' AND run.status = 'started'
  AND (task.last_worker_id IS NULL OR worker.state IN ('stopped', 'lost'))
GROUP BY task.flow_slug
ORDER BY task.flow_slug
