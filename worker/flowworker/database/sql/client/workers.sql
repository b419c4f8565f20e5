-- What workers say about themselves, the most alive first; `drain` is the request in force for one of them.
SELECT
    w.worker_id,
    w.worker_name,
    w.kind,
    w.slug,
    w.state,
    w.in_flight,
    w.slots,
    w.completed,
    w.failed,
    w.pod_name,
    w.pod_uid,
    w.version,
    w.last_error,
    w.started_at,
    w.reported_at,
    extract(EPOCH FROM clock_timestamp() - w.reported_at)::float8 AS age,
    d.until AS drain_until,
    d.reason AS drain_reason
FROM flowworker.workers AS w
LEFT JOIN LATERAL (
    SELECT
        r.until,
        r.reason
    FROM flowworker.drains AS r
    WHERE r.target IN (w.worker_id::text, w.pod_uid) AND r.until > clock_timestamp()
    ORDER BY r.until DESC
    LIMIT 1
) AS d ON true
WHERE
    ($1::text IS NULL OR w.slug = $1)
    AND ($2::boolean OR w.state NOT IN ('stopped', 'lost'))
ORDER BY w.state IN ('stopped', 'lost'), w.kind, w.slug, w.started_at
