-- One heartbeat of all workers of a process: write what they report, and return how each of them stands, when the last
-- worker of the same flow or queue ended, and which of a few other workers of it are silent. A row that is marked lost,
-- or that another process has taken over, is left alone: its worker must go on under a new id. So is a row that someone
-- else has locked: `unless_locked` is nothing, or SKIP LOCKED, so that one such row costs no other worker its heartbeat.
-- The others are a sample of at most $4 for each flow or queue, those that follow the random id $3: whatever the size of
-- the fleet, a heartbeat costs the same, and every worker is seen by about $4 others. Silent is who has not reported
-- since $2; NULL judges no worker. The same goes for the worker that ended last: only for those in whose sample it would
-- be has it been `seen` to end, so that about $4 look after what it left, and not all of them. LIMIT 1 keeps a look-up an index probe, however many reports the planner expects.
WITH report AS MATERIALIZED (
    SELECT *
    FROM jsonb_to_recordset($1::jsonb) AS r(
        worker_id uuid, boot_id uuid, kind text, slug text, queue_name text, worker_name text, namespace text,
        flowworker text, pod_name text, pod_uid text, revision text, version text, state text, in_flight integer,
        slots integer, completed bigint, failed bigint, last_error text, longest_timeout integer,
        begun_at timestamptz, unwritten_for double precision, unclaimed_for double precision, doubts integer,
        network_namespace text, option_changes jsonb
    )
),
writable AS MATERIALIZED (
    SELECT report.*
    FROM report
    LEFT JOIN LATERAL (
        SELECT w.worker_id FROM flowworker.workers AS w WHERE w.worker_id = report.worker_id LIMIT 1
    ) AS known ON true
    LEFT JOIN LATERAL (
        SELECT w.worker_id
        FROM flowworker.workers AS w
        WHERE w.worker_id = known.worker_id
        LIMIT 1
        FOR NO KEY UPDATE {unless_locked}
    ) AS free ON true
    WHERE known.worker_id IS NULL OR free.worker_id IS NOT NULL
),
written AS (
    INSERT INTO flowworker.workers AS w (
        worker_id, boot_id, kind, slug, worker_name, namespace, flowworker, pod_name, pod_uid, revision, version,
        state, in_flight, slots, completed, failed, last_error, longest_timeout{health_columns}
    )
    SELECT
        worker_id, boot_id, kind, slug, worker_name, namespace, flowworker, pod_name, pod_uid, revision, version,
        state, in_flight, slots, completed, failed, last_error, longest_timeout{health_columns}
    FROM writable
    ORDER BY worker_id
    ON CONFLICT (worker_id) DO UPDATE SET
        boot_id = excluded.boot_id,
        state = excluded.state,
        in_flight = excluded.in_flight,
        slots = excluded.slots,
        completed = excluded.completed,
        failed = excluded.failed,
        last_error = excluded.last_error,
        reported_at = clock_timestamp(){health_updates}
    WHERE {may_write}
    RETURNING w.worker_id, w.state
),
{registered},
served AS (SELECT DISTINCT kind, slug FROM report),
sample AS MATERIALIZED (
    SELECT other.*
    FROM served
    CROSS JOIN LATERAL (
        (
            SELECT w.kind, w.slug, w.worker_id, w.boot_id, w.pod_uid, w.state, w.reported_at
            FROM flowworker.workers AS w
            WHERE w.kind = served.kind AND w.slug = served.slug AND w.state NOT IN ('stopped', 'lost')
                AND w.worker_id > $3::uuid
            ORDER BY w.worker_id
            LIMIT $4::integer
        )
        UNION ALL
        (
            SELECT w.kind, w.slug, w.worker_id, w.boot_id, w.pod_uid, w.state, w.reported_at
            FROM flowworker.workers AS w
            WHERE w.kind = served.kind AND w.slug = served.slug AND w.state NOT IN ('stopped', 'lost')
                AND w.worker_id <= $3::uuid
            ORDER BY w.worker_id
            LIMIT $4::integer
        )
        LIMIT $4::integer
    ) AS other
)
SELECT
    'own' AS what,
    report.kind,
    report.slug,
    report.worker_id,
    earlier.boot_id,
    report.pod_uid,
    coalesce(written.state, earlier.state, 'lost') AS state,
    earlier.reported_at,
    registered.deprecated IS TRUE AS deprecated,
    drain.until AS drain_until,
    drain.reason AS drain_reason,
    written.worker_id IS NOT NULL AS written,
    0 AS looked_at,
    false AS seen,
    clock_timestamp() AS now,
    pg_postmaster_start_time() AS server
FROM report
LEFT JOIN written USING (worker_id)
LEFT JOIN LATERAL (
    SELECT w.boot_id, w.state, w.reported_at
    FROM flowworker.workers AS w
    WHERE w.worker_id = report.worker_id
    LIMIT 1
) AS earlier ON true
LEFT JOIN registered USING (worker_id)
LEFT JOIN LATERAL (
    SELECT d.until, d.reason
    FROM flowworker.drains AS d
    WHERE d.target IN (report.worker_id::text, report.pod_uid) AND d.until > clock_timestamp()
    ORDER BY d.until DESC
    LIMIT 1
) AS drain ON true
UNION ALL
SELECT
    'served', served.kind, served.slug, NULL, NULL, NULL, NULL, ended.ended_at, false, NULL, NULL, false,
    looked.count,
    looked.count < $4::integer OR EXISTS (
        SELECT
        FROM sample
        WHERE sample.kind = served.kind AND sample.slug = served.slug
            AND (sample.worker_id <= $3::uuid, sample.worker_id) > (ended.worker_id <= $3::uuid, ended.worker_id)
    ),
    NULL, NULL
FROM served
CROSS JOIN LATERAL (
    SELECT count(*)::integer FROM sample WHERE sample.kind = served.kind AND sample.slug = served.slug
) AS looked(count)
LEFT JOIN LATERAL (
    {last_end}
) AS ended ON true
UNION ALL
SELECT
    'silent', sample.kind, sample.slug, sample.worker_id, sample.boot_id, sample.pod_uid, sample.state,
    sample.reported_at, false, NULL, NULL, false, 0, false, NULL, NULL
FROM sample
WHERE sample.reported_at < $2::timestamptz AND sample.worker_id NOT IN (SELECT worker_id FROM report)
