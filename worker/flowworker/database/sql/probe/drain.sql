-- Asks for drains as one FlowWorker's operator, or renews them: as long as one is in force it keeps the time it was first
-- asked for. Others' drains of the same pods are rows of their own.
INSERT INTO flowworker.drains AS d (target, created_by, until, reason)
SELECT
    t.target,
    $1::text,
    clock_timestamp() + make_interval(secs => t.seconds),
    t.reason
FROM unnest($2::text[], $3::float8[], $4::text[]) AS t (target, seconds, reason)
ORDER BY t.target
ON CONFLICT (target, created_by) DO UPDATE SET
    until = excluded.until,
    reason = excluded.reason,
    created_at = CASE WHEN d.until > clock_timestamp() THEN d.created_at ELSE excluded.created_at END
RETURNING d.target, d.created_at >= statement_timestamp() AS is_new
