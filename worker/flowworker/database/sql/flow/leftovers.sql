-- What stands behind messages that were read but could not be started.
SELECT
    seen.msg_id,
    t.status AS task_status,
    r.status AS run_status,
    extract(epoch FROM clock_timestamp() - t.started_at)::double precision AS running_for,
    coalesce(s.opt_timeout, f.opt_timeout) AS timeout
FROM unnest($2::bigint[]) AS seen(msg_id)
LEFT JOIN pgflow.step_tasks AS t ON t.flow_slug = $1::text AND t.message_id = seen.msg_id {by_queue}
LEFT JOIN pgflow.runs AS r ON r.run_id = t.run_id
LEFT JOIN pgflow.steps AS s ON s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
LEFT JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
