-- Everything started under one worker's id, with the figures that start_tasks does not return. A statement of its own:
-- only a fresh snapshot sees what the claim has just committed. Nothing for a worker that was marked lost meanwhile: what
-- it holds is for others to give back.
SELECT
    t.message_id AS msg_id,
    t.run_id,
    t.step_slug,
    t.task_index,
    t.attempts_count AS attempt,
    t.started_at,
    coalesce(s.opt_max_attempts, f.opt_max_attempts) AS max_attempts,
    coalesce(s.opt_timeout, f.opt_timeout)::double precision AS timeout
FROM pgflow.step_tasks AS t
JOIN flowworker.workers AS w ON w.worker_id = t.last_worker_id AND w.state NOT IN ('lost', 'stopped')
JOIN pgflow.runs AS r ON r.run_id = t.run_id AND r.status = 'started'
JOIN pgflow.steps AS s ON s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
WHERE t.last_worker_id = $1::uuid AND t.status = 'started' AND t.flow_slug = $2::text
