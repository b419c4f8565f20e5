-- Core 0.10 and newer has a column for it.
UPDATE pgflow.workers
SET stopped_at = clock_timestamp(), last_heartbeat_at = clock_timestamp()
WHERE worker_id = ANY($1::uuid[])
