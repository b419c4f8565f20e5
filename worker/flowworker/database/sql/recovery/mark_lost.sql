-- Marks workers lost whose heartbeat is still the one the observer saw, so that a beat in between saves them. The
-- advisory lock lets one observer act; the others find nothing left to do. A row that is locked may be in a beat, or
-- kept from one by another program: it is not judged now, and holds up no other.
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended('flowworker.lost:' || $3::text, 0)) AS ours
),
unchanged AS (
    SELECT w.worker_id
    FROM unnest($1::uuid[], $2::timestamptz[]) AS seen(worker_id, beat)
    JOIN flowworker.workers AS w ON w.worker_id = seen.worker_id AND w.reported_at = seen.beat
    WHERE w.state NOT IN ('stopped', 'lost') AND (SELECT ours FROM turn)
    ORDER BY w.worker_id
    FOR UPDATE OF w SKIP LOCKED
)
UPDATE flowworker.workers AS w
SET state = 'lost'
FROM unchanged
WHERE w.worker_id = unchanged.worker_id
RETURNING w.worker_id
