-- Started tasks whose worker will never finish them: it is lost or stopped, or they have no owner. A worker that is not
-- in flowworker.workers is a foreign one and may beat or not; it is only past its deadline that its tasks are taken.
-- Cores from 0.13.2 on mark tasks that stalled for good, which are left to people.
SELECT
    t.message_id AS msg_id,
    t.run_id,
    t.step_slug,
    t.task_index,
    t.attempts_count AS attempt,
    t.started_at,
    t.last_worker_id AS worker_id,
    {losses} AS losses,
    CASE WHEN w.worker_id IS NULL THEN t.last_worker_id IS NOT NULL ELSE coalesce(w.state = 'lost' AND {begun}, false) END AS is_loss
FROM pgflow.step_tasks AS t
JOIN pgflow.runs AS r ON r.run_id = t.run_id AND r.status = 'started'
JOIN pgflow.step_states AS p ON p.run_id = t.run_id AND p.step_slug = t.step_slug AND p.status = 'started'
JOIN pgflow.steps AS s ON s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
LEFT JOIN flowworker.workers AS w ON w.worker_id = t.last_worker_id
LEFT JOIN {queue_table} AS q ON q.msg_id = t.message_id
WHERE t.flow_slug = $1::text
    AND t.status = 'started'
    AND t.last_worker_id IS DISTINCT FROM $2::uuid
    AND t.run_id <> ALL($5::uuid[])
    AND (to_jsonb(t) ->> 'permanently_stalled_at') IS NULL
    AND (
        t.last_worker_id IS NULL
        OR w.state IN ('lost', 'stopped')
        OR (
            w.worker_id IS NULL
            AND t.started_at
                < clock_timestamp() - make_interval(secs => coalesce(s.opt_timeout, f.opt_timeout) + $3::double precision)
        )
    )
ORDER BY t.started_at
LIMIT $4::integer
