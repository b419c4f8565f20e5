-- Workers of pods that are known to be gone are lost at once: nobody need watch their silence. The order of the locks
-- is that of heartbeats and of other observers.
WITH gone AS (
    SELECT w.worker_id
    FROM flowworker.workers AS w
    WHERE w.pod_uid = ANY($1::text[]) AND w.state NOT IN ('stopped', 'lost')
    ORDER BY w.worker_id
    FOR UPDATE OF w
)
UPDATE flowworker.workers AS w
SET state = 'lost'
FROM gone
WHERE w.worker_id = gone.worker_id
RETURNING coalesce(w.pod_name, w.worker_name) AS name
