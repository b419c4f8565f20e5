-- What runs, for all flows in one scan of the started tasks, newest first: what a failed run left behind started sinks to
-- the end. A task is stalled when only people can help: it was marked so, its step has ended, or its worker is dead and a
-- worker that could have recovered it has lived long enough since. Orphaned tasks that no worker could
-- recover are in flight.
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
    SELECT
        f.flow_slug,
        max(coalesce(s.opt_timeout, f.opt_timeout)) AS longest,
        -- From core 0.17 on a flow may have a queue for each step, hence the detour through the row as JSON.
        bool_or(to_jsonb(f) ->> 'queue_mode' <> 'flow') AS queue_per_step
    FROM pgflow.flows AS f
    LEFT JOIN pgflow.steps AS s ON s.flow_slug = f.flow_slug
    WHERE f.flow_slug = ANY($2::text[])
    GROUP BY f.flow_slug
),
-- For each revision of a FlowWorker: the options that its newest worker found other than in its code, with what the
-- database has by now. Anything may stand in a report, so nothing of it is cast.
found AS MATERIALIZED (
    SELECT f.position, jsonb_object_agg(f.revision, f.options) AS options
    FROM (
        SELECT DISTINCT ON (s.position, w.revision) s.position, w.revision, (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'step', c.step, 'option', c.option, 'code', c.code, 'database', coalesce(g.value, p.value)
            ) ORDER BY c.position), '[]')
            FROM (
                SELECT o.change ->> 'step' AS step, o.change ->> 'option' AS option, o.change -> 'code' AS code, o.position
                FROM jsonb_array_elements(w.reported) WITH ORDINALITY AS o (change, position)
                LIMIT $17::integer
            ) AS c
            LEFT JOIN LATERAL (
                SELECT CASE c.option
                    WHEN 'max_attempts' THEN to_jsonb(e.opt_max_attempts)
                    WHEN 'base_delay' THEN to_jsonb(e.opt_base_delay)
                    WHEN 'timeout' THEN to_jsonb(e.opt_timeout)
                END AS value
                FROM pgflow.flows AS e
                WHERE c.step IS NULL AND e.flow_slug = s.slug
            ) AS g ON true
            LEFT JOIN LATERAL (
                SELECT CASE c.option
                    WHEN 'max_attempts' THEN to_jsonb(e.opt_max_attempts)
                    WHEN 'base_delay' THEN to_jsonb(e.opt_base_delay)
                    WHEN 'timeout' THEN to_jsonb(e.opt_timeout)
                    WHEN 'start_delay' THEN to_jsonb(coalesce(e.opt_start_delay, 0))
                END AS value
                FROM pgflow.steps AS e
                WHERE e.flow_slug = s.slug AND e.step_slug = c.step
            ) AS p ON true
        ) AS options
        FROM
            unnest($1::text[], $2::text[], $4::text[], $5::text[])
            WITH ORDINALITY AS s (kind, slug, namespace, flowworker, position)
        CROSS JOIN LATERAL (
            SELECT v.revision, v.started_at, v.reported
            FROM (
                SELECT u.kind, u.slug, u.revision, u.started_at, {option_changes} AS reported
                FROM flowworker.workers AS u
                WHERE u.namespace = s.namespace AND u.flowworker = s.flowworker
                ORDER BY u.started_at DESC
                LIMIT $13::integer
            ) AS v
            WHERE v.kind = s.kind AND v.slug = s.slug AND v.revision IS NOT NULL AND jsonb_typeof(v.reported) = 'array'
        ) AS w
        WHERE s.kind = 'flow'
        ORDER BY s.position, w.revision, w.started_at DESC
    ) AS f
    GROUP BY f.position
)
