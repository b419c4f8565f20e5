-- One heartbeat of all workers of a process: write what they report, and return how each of them stands and who else
-- serves the same flows and queues. A row that is marked lost is left alone: its worker must go on under a new id.
WITH report AS MATERIALIZED (
    SELECT *
    FROM jsonb_to_recordset($1::jsonb) AS r(
        worker_id uuid, boot_id uuid, kind text, slug text, queue_name text, worker_name text, namespace text,
        flowworker text, pod_name text, pod_uid text, revision text, version text, state text, in_flight integer,
        slots integer, completed bigint, failed bigint, last_error text, longest_timeout integer
    )
),
written AS (
    INSERT INTO flowworker.workers AS w (
        worker_id, boot_id, kind, slug, worker_name, namespace, flowworker, pod_name, pod_uid, revision, version,
        state, in_flight, slots, completed, failed, last_error, longest_timeout
    )
    SELECT
        worker_id, boot_id, kind, slug, worker_name, namespace, flowworker, pod_name, pod_uid, revision, version,
        state, in_flight, slots, completed, failed, last_error, longest_timeout
    FROM report
    ORDER BY worker_id
    ON CONFLICT (worker_id) DO UPDATE SET
        boot_id = excluded.boot_id,
        state = excluded.state,
        in_flight = excluded.in_flight,
        slots = excluded.slots,
        completed = excluded.completed,
        failed = excluded.failed,
        last_error = excluded.last_error,
        reported_at = clock_timestamp()
    WHERE {may_write}
    RETURNING w.worker_id, w.state
),
{registered}
SELECT
    true AS own,
    report.kind,
    report.slug,
    report.worker_id,
    report.boot_id,
    report.pod_uid,
    coalesce(written.state, earlier.state, 'lost') AS state,
    NULL::timestamptz AS beat,
    registered.deprecated IS TRUE AS deprecated,
    drain.until AS drain_until,
    drain.reason AS drain_reason
FROM report
LEFT JOIN written USING (worker_id)
LEFT JOIN flowworker.workers AS earlier USING (worker_id)
LEFT JOIN registered USING (worker_id)
LEFT JOIN LATERAL (
    SELECT d.until, d.reason
    FROM flowworker.drains AS d
    WHERE d.target IN (report.worker_id::text, report.pod_uid) AND d.until > clock_timestamp()
    ORDER BY d.until DESC
    LIMIT 1
) AS drain ON true
UNION ALL
SELECT false, w.kind, w.slug, w.worker_id, w.boot_id, w.pod_uid, w.state, w.reported_at, false, NULL, NULL
FROM flowworker.workers AS w
WHERE (w.kind, w.slug) IN (SELECT kind, slug FROM report)
    AND w.state NOT IN ('stopped', 'lost')
    AND w.worker_id NOT IN (SELECT worker_id FROM report)
