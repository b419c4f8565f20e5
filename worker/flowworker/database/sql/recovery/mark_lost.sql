-- Marks workers lost whose heartbeat is still the one the observer saw, so that a beat in between saves them, but not
-- those that are to be spared ($4). The advisory lock lets one observer act; the others find nothing left to do. A row
-- that is locked may be in a beat, or kept from one by another program: it is not judged now, and holds up no other.
-- Returns every worker that is still silent, whether its row is free, and whether it is lost now.
WITH turn AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(hashtextextended('flowworker.lost:' || $3::text, 0)) AS ours
),
unchanged AS (
    SELECT w.worker_id, seen.is_spared
    FROM unnest($1::uuid[], $2::timestamptz[], $4::boolean[]) AS seen(worker_id, beat, is_spared)
    JOIN flowworker.workers AS w ON w.worker_id = seen.worker_id AND w.reported_at = seen.beat
    WHERE w.state NOT IN ('stopped', 'lost') AND (SELECT ours FROM turn)
    ORDER BY w.worker_id
    FOR UPDATE OF w SKIP LOCKED
),
marked AS (
    UPDATE flowworker.workers AS w
    SET state = 'lost'
    FROM unchanged
    WHERE w.worker_id = unchanged.worker_id AND NOT unchanged.is_spared
    RETURNING w.worker_id
)
SELECT seen.worker_id, unchanged.worker_id IS NOT NULL AS is_free, marked.worker_id IS NOT NULL AS is_lost
FROM unnest($1::uuid[], $2::timestamptz[]) AS seen(worker_id, beat)
JOIN flowworker.workers AS w ON w.worker_id = seen.worker_id AND w.reported_at = seen.beat
LEFT JOIN unchanged ON unchanged.worker_id = seen.worker_id
LEFT JOIN marked ON marked.worker_id = seen.worker_id
WHERE w.state NOT IN ('stopped', 'lost') AND (SELECT ours FROM turn)
