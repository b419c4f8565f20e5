-- Which of these tasks are no longer held: their run has ended, or another claim owns them. Of any number of flows and
-- workers, by position. Reads no queue and waits for no row.
SELECT h.number::integer AS number
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::integer[], $6::timestamptz[])
    WITH ORDINALITY AS h(worker_id, run_id, step_slug, task_index, attempt, started_at, number)
LEFT JOIN LATERAL (
    SELECT true AS found
    FROM pgflow.step_tasks AS t
    JOIN pgflow.runs AS r ON r.run_id = t.run_id AND r.status = 'started'
    WHERE t.run_id = h.run_id
        AND t.step_slug = h.step_slug
        AND t.task_index = h.task_index
        AND t.status = 'started'
        AND t.last_worker_id = h.worker_id
        AND t.attempts_count = h.attempt
        AND t.started_at = h.started_at
) AS held ON true
WHERE held.found IS NULL
