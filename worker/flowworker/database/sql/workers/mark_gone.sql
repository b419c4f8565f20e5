-- Marks workers lost whose process is proven to be gone, if their row is still that of this process.
WITH gone AS (
    SELECT w.worker_id
    FROM unnest($1::uuid[], $2::uuid[]) AS g(worker_id, boot_id)
    JOIN flowworker.workers AS w ON w.worker_id = g.worker_id AND w.boot_id = g.boot_id
    WHERE w.state NOT IN ('stopped', 'lost')
    ORDER BY w.worker_id
    FOR UPDATE OF w SKIP LOCKED
)
UPDATE flowworker.workers AS w
SET state = 'lost'
FROM gone
WHERE w.worker_id = gone.worker_id
RETURNING w.worker_id
