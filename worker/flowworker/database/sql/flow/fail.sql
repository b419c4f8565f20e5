-- Fails attempts behind the fence (see complete.sql). A final failure raises the attempt to the effective maximum
-- first, because pgflow has no call for it; a delay chosen by the handler replaces pgflow's backoff, and only where
-- the task really went back to the queue. A claim locks messages first and then their tasks, but cores from 0.15.1 on end
-- the other tasks of a run that fails first and then archive their messages: so where an attempt is the last one, those
-- messages are locked before the core is called, in the claim's order, which excludes deadlocks. The counts are
-- returned only so that no planner may drop their sources.
WITH result AS (
    SELECT *
    FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::integer[], $6::integer[], $7::timestamptz[], $8::text[], $9::boolean[], $10::integer[])
        WITH ORDINALITY AS r(worker_id, run_id, step_slug, task_index, attempt, started_at, error, final, retry_after, position)
),
fenced AS MATERIALIZED (
    SELECT
        result.position, result.run_id, result.step_slug, result.task_index, result.attempt, result.error, result.final, result.retry_after,
        coalesce(s.opt_max_attempts, f.opt_max_attempts) AS max_attempts,
        coalesce(s.opt_base_delay, f.opt_base_delay) AS base_delay
    FROM result
    JOIN pgflow.runs AS r ON r.run_id = result.run_id
    JOIN pgflow.step_tasks AS t
        ON t.run_id = result.run_id AND t.step_slug = result.step_slug AND t.task_index = result.task_index
    JOIN pgflow.steps AS s ON s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
    JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
    WHERE r.status = 'started'
        AND t.status = 'started'
        AND t.last_worker_id IS NOT DISTINCT FROM result.worker_id
        AND t.attempts_count = result.attempt
        AND t.started_at = result.started_at
    ORDER BY result.run_id
    FOR UPDATE OF r, t {unless_locked}
),
waiting AS MATERIALIZED (
    SELECT q.msg_id
    FROM (SELECT DISTINCT run_id FROM fenced WHERE final OR attempt >= max_attempts) AS ending
    JOIN pgflow.step_tasks AS t ON t.run_id = ending.run_id AND t.status = 'queued'
    JOIN {queue_table} AS q ON q.msg_id = t.message_id
    ORDER BY q.msg_id
    FOR UPDATE OF q
),
exhausted AS (
    UPDATE pgflow.step_tasks AS t
    SET attempts_count = greatest(t.attempts_count, f.max_attempts)
    FROM fenced AS f
    WHERE f.final AND t.run_id = f.run_id AND t.step_slug = f.step_slug AND t.task_index = f.task_index
    RETURNING f.position
)
SELECT
    f.position::integer,
    done.status,
    NULL::text AS error,
    CASE WHEN done.status = 'queued' THEN
        coalesce(f.retry_after, pgflow.calculate_retry_delay(f.base_delay, done.attempts_count))
    END::double precision AS retry_in,
    now() AS written_at,
    f.exhausted,
    f.waiting,
    delayed.count
FROM (
    SELECT fenced.*, raised.count AS exhausted, held.count AS waiting
    FROM fenced
    CROSS JOIN (SELECT count(*) FROM waiting) AS held
    CROSS JOIN (SELECT count(*) FROM exhausted) AS raised
    ORDER BY run_id, step_slug, task_index OFFSET 0
) AS f
LEFT JOIN LATERAL pgflow.fail_task(f.run_id, f.step_slug, f.task_index, f.error) AS done ON true
LEFT JOIN LATERAL (
    SELECT count(*)
    FROM pgmq.set_vt($1::text, CASE WHEN done.status = 'queued' AND f.retry_after IS NOT NULL THEN done.message_id END, f.retry_after)
) AS delayed ON true
