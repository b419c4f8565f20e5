-- Every flow of the database with what is going on in it.
SELECT
    f.flow_slug,
    f.opt_max_attempts AS max_attempts,
    f.opt_base_delay AS base_delay,
    f.opt_timeout AS timeout,
    (SELECT count(*) FROM pgflow.steps AS s WHERE s.flow_slug = f.flow_slug) AS steps,
    (SELECT count(*) FROM pgflow.runs AS r WHERE r.flow_slug = f.flow_slug AND r.status = 'started') AS active_runs,
    (
        SELECT count(*) FROM flowworker.workers AS w
        WHERE w.kind = 'flow' AND w.slug = f.flow_slug AND w.state NOT IN ('stopped', 'lost')
    ) AS workers
FROM pgflow.flows AS f
ORDER BY f.flow_slug
