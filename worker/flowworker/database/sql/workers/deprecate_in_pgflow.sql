-- Core 0.8 and 0.9 know no end of a worker but its deprecation.
UPDATE pgflow.workers
SET deprecated_at = coalesce(deprecated_at, clock_timestamp()), last_heartbeat_at = clock_timestamp()
WHERE worker_id = ANY($1::uuid[])
