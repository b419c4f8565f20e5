-- What runs, for all flows in one scan of the started tasks, newest first: what a failed run left behind started sinks to
-- the end. A task is stalled when only people can help: it was marked so, its step has ended, or its worker is dead and a
-- worker that could have recovered it has lived long enough since. Orphaned tasks that nobody could recover are in flight.
started AS MATERIALIZED (
    SELECT n.flow_slug, n.run_id, n.step_slug, n.last_worker_id, n.attempts_count, n.started_at, {marked_stalled} AS marked
    FROM pgflow.step_tasks AS n
    WHERE n.status = 'started'
    ORDER BY n.started_at DESC
    LIMIT $9::bigint
),
tended AS MATERIALIZED (
    SELECT f.slug, max(v.reported_at) AS until
    FROM (SELECT DISTINCT x.slug FROM unnest($2::text[]) AS x (slug)) AS f
    CROSS JOIN LATERAL (
        SELECT u.reported_at, u.started_at
        FROM flowworker.workers AS u
        WHERE u.kind = 'flow' AND u.slug = f.slug
        ORDER BY u.started_at DESC
        LIMIT $15::integer
    ) AS v
    WHERE v.reported_at > v.started_at + make_interval(secs => $10::float8)
    GROUP BY f.slug
),
task AS MATERIALIZED (
    SELECT
        t.flow_slug,
        t.last_worker_id,
        t.attempts_count >= b.max_attempts AS on_last_attempt,
        t.marked
        OR b.step_status <> 'started'
        OR CASE
            WHEN w.state NOT IN ('stopped', 'lost') THEN false
            ELSE coalesce(
                (SELECT tended.until FROM tended WHERE tended.slug = t.flow_slug)
                > make_interval(secs => $10::float8) + CASE
                    WHEN t.last_worker_id IS NULL THEN t.started_at
                    WHEN w.worker_id IS NULL THEN t.started_at + make_interval(secs => b.timeout + $11::float8)
                    ELSE w.reported_at
                END,
                false
            )
        END AS stalled
    FROM started AS t
    CROSS JOIN LATERAL (
        SELECT
            p.status AS step_status,
            coalesce(s.opt_max_attempts, f.opt_max_attempts) AS max_attempts,
            coalesce(s.opt_timeout, f.opt_timeout) AS timeout
        FROM pgflow.runs AS r
        JOIN pgflow.step_states AS p ON p.run_id = r.run_id AND p.step_slug = t.step_slug
        JOIN pgflow.steps AS s ON s.flow_slug = t.flow_slug AND s.step_slug = t.step_slug
        JOIN pgflow.flows AS f ON f.flow_slug = t.flow_slug
        WHERE r.run_id = t.run_id AND r.status = 'started'
        LIMIT 1
    ) AS b
    LEFT JOIN flowworker.workers AS w ON w.worker_id = t.last_worker_id
    WHERE t.flow_slug = ANY($2::text[])
),
work AS MATERIALIZED (
    SELECT t.flow_slug, count(*) FILTER (WHERE NOT t.stalled) AS in_flight, count(*) FILTER (WHERE t.stalled) AS stalled
    FROM task AS t
    GROUP BY t.flow_slug
),
endangered AS MATERIALIZED (
    SELECT coalesce(array_agg(DISTINCT t.last_worker_id), '{}'::uuid[]) AS worker_ids
    FROM task AS t
    WHERE t.on_last_attempt AND t.last_worker_id IS NOT NULL
),
timeout AS MATERIALIZED (
    SELECT f.flow_slug, max(coalesce(s.opt_timeout, f.opt_timeout)) AS longest
    FROM pgflow.flows AS f
    LEFT JOIN pgflow.steps AS s ON s.flow_slug = f.flow_slug
    WHERE f.flow_slug = ANY($2::text[])
    GROUP BY f.flow_slug
)
