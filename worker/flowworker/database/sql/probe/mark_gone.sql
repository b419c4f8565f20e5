-- Workers of pods that are known to be gone are lost at once, without waiting for missed heartbeats. A silent pod may
-- have started anew meanwhile, and its new workers share its uid: only those are lost that have missed a heartbeat. The
-- order of the locks is that of heartbeats and of other observers. With a pod that is gone go the drains that operators
-- asked for, which every probe would read again; one that another session has locked is left to lapse.
-- $1 uids of pods that are gone, $2 uids of silent pods, $3 seconds without a heartbeat.
WITH gone AS (
    SELECT w.worker_id, w.state
    FROM flowworker.workers AS w
    WHERE
        w.state NOT IN ('stopped', 'lost')
        AND (
            w.pod_uid = ANY($1::text[])
            OR (
                w.pod_uid = ANY($2::text[])
                AND w.reported_at < clock_timestamp() - make_interval(secs => $3::float8)
            )
        )
    ORDER BY w.worker_id
    FOR UPDATE OF w
),
void AS (
    SELECT d.target, d.created_by
    FROM flowworker.drains AS d
    WHERE d.target = ANY($1::text[]) AND starts_with(d.created_by, 'operator/')
    FOR UPDATE OF d SKIP LOCKED
),
released AS (
    DELETE FROM flowworker.drains AS d
    USING void
    WHERE d.target = void.target AND d.created_by = void.created_by
)
UPDATE flowworker.workers AS w
SET state = 'lost'
FROM gone
WHERE w.worker_id = gone.worker_id
RETURNING coalesce(w.pod_name, w.worker_name) AS name, gone.state, w.in_flight
