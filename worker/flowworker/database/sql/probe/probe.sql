-- Everything the operator wants to know of a database, for any number of flows and queues: one row each. The text
-- depends only on which queues there are, so that the statement stays prepared. Its cost depends on the caps ($3), not
-- on the backlog: every scan of a table that grows follows an index and ends at a limit.
-- $1 kinds, $2 slugs, $3 caps, $4 namespaces and $5 names of the resources, $6 who asks for their drains, $7 queue
-- tables, $8 messages looked at beyond the cap, $9 started tasks looked at, $10 seconds after which a recovery that
-- could have been would have been, $11 seconds a foreign worker is given beyond the timeout, $12 workers looked at, $13
-- ended workers that are read, $14 seconds for which they are, $15 workers looked at for who could have recovered tasks, $16 workers
-- above which errors are cut short, $17 options that differ, of each revision.
WITH bound AS (
    -- Gives every parameter its type: not every text uses them all.
    SELECT
        $8::bigint, $9::bigint, $10::float8, $11::float8, $12::integer, $13::integer, $14::float8, $15::integer, $16::integer,
        $17::integer
),
backlog AS MATERIALIZED (
{backlog}
),
{flows}
SELECT
    s.position::integer,
    coalesce(backlog.visible, 0) AS visible,
    coalesce(backlog.startable, 0) AS startable,
    backlog.oldest_startable_at,
    coalesce(backlog.delayed, 0) AS delayed,
    extract(EPOCH FROM backlog.due_at - now())::float8 AS due_in,
    coalesce(work.in_flight, 0) AS in_flight,
    coalesce(work.stalled, 0) AS stalled,
    (SELECT count(*) FROM started) >= $9::bigint AS in_flight_cut,
    coalesce(timeout.longest, crew.longest_timeout, latest.longest_timeout) AS longest_timeout,
    timeout.queue_per_step IS TRUE AS queue_per_step,
    found.options,
    crew.workers,
    (
        SELECT jsonb_object_agg(d.target, extract(EPOCH FROM now() - d.created_at))
        FROM (
            SELECT r.target, r.created_at
            FROM flowworker.drains AS r
            WHERE r.created_by = s.asker AND r.until > now()
            LIMIT $12::integer
        ) AS d
    ) AS drains,
    CASE WHEN tables.queue IS NULL THEN NULL ELSE has_table_privilege(tables.queue, 'SELECT') END AS queue_readable,
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only,
    (
        SELECT sum(c.relnatts)
        FROM pg_class AS c
        WHERE c.oid IN (
            to_regclass('pgflow.step_tasks'), to_regclass('pgflow.step_states'), to_regclass('flowworker.workers'),
            to_regclass('flowworker.drains')
        )
    )::integer AS layout
FROM
    unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[])
    WITH ORDINALITY AS s (kind, slug, cap, namespace, flowworker, asker, queue_table, position)
LEFT JOIN backlog ON backlog.position = s.position
LEFT JOIN work ON s.kind = 'flow' AND work.flow_slug = s.slug
LEFT JOIN timeout ON s.kind = 'flow' AND timeout.flow_slug = s.slug
LEFT JOIN found ON found.position = s.position
CROSS JOIN LATERAL (SELECT to_regclass(s.queue_table) AS queue) AS tables
CROSS JOIN LATERAL (
    SELECT
        jsonb_agg(jsonb_build_object(
            'worker_id', w.worker_id,
            'boot_id', w.boot_id,
            'kind', w.kind,
            'slug', w.slug,
            'namespace', w.namespace,
            'flowworker', w.flowworker,
            'pod_uid', w.pod_uid,
            'state', w.state,
            'in_flight', w.in_flight,
            'last_error', left(w.last_error, CASE WHEN w.crowd > $16::integer THEN 120 ELSE 512 END),
            'unwritten_for', to_jsonb(w) -> 'unwritten_for',
            'unclaimed_for', to_jsonb(w) -> 'unclaimed_for',
            'doubts', to_jsonb(w) -> 'doubts',
            'started_at', w.started_at,
            'beat', w.reported_at,
            'on_last_attempt', w.worker_id = ANY((SELECT e.worker_ids FROM endangered AS e)::uuid[])
        )) AS workers,
        max(w.longest_timeout) FILTER (WHERE w.kind = s.kind AND w.slug = s.slug) AS longest_timeout
    FROM (
        SELECT c.*, count(*) OVER () AS crowd
        FROM (
            WITH others AS MATERIALIZED (
                SELECT v.*
                FROM (
                    SELECT u.*
                    FROM flowworker.workers AS u
                    WHERE u.namespace = s.namespace AND u.flowworker = s.flowworker
                    ORDER BY u.started_at DESC
                    LIMIT $12::integer
                ) AS v
                WHERE
                    CASE
                        WHEN v.state IN ('stopped', 'lost') THEN v.reported_at > now() - make_interval(secs => $14::float8)
                        ELSE v.kind <> s.kind OR v.slug <> s.slug
                    END
            )
            (
                SELECT v.*
                FROM flowworker.workers AS v
                WHERE v.kind = s.kind AND v.slug = s.slug AND v.state NOT IN ('stopped', 'lost')
                ORDER BY (v.namespace = s.namespace AND v.flowworker = s.flowworker) IS TRUE DESC, v.started_at DESC
                LIMIT $12::integer
            )
            UNION ALL
            SELECT v.* FROM others AS v WHERE v.state NOT IN ('stopped', 'lost')
            UNION ALL
            (
                SELECT v.*
                FROM others AS v
                WHERE v.state IN ('stopped', 'lost')
                ORDER BY v.reported_at DESC
                LIMIT $13::integer
            )
        ) AS c
    ) AS w
) AS crew
CROSS JOIN LATERAL (
    -- Of a queue only its workers know it: while none runs, those that ran last.
    SELECT max(v.longest_timeout) FILTER (WHERE v.kind = s.kind AND v.slug = s.slug) AS longest_timeout
    FROM (
        SELECT u.kind, u.slug, u.longest_timeout
        FROM flowworker.workers AS u
        WHERE u.namespace = s.namespace AND u.flowworker = s.flowworker
        ORDER BY u.started_at DESC
        LIMIT $13::integer
    ) AS v
    WHERE timeout.longest IS NULL AND crew.longest_timeout IS NULL
) AS latest
ORDER BY s.position
