-- Asks workers to drain, or renews the request: a drain is a lease, in force until it lapses.
INSERT INTO flowworker.drains (target, until, reason)
SELECT
    t.target,
    clock_timestamp() + make_interval(secs => $2),
    $3
FROM unnest($1::text[]) AS t (target)
ON CONFLICT (target, created_by) DO UPDATE SET until = greatest(drains.until, excluded.until), reason = excluded.reason
