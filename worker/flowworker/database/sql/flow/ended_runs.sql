-- Runs that ended at the very transaction time of one of our finishing statements: ended by us.
SELECT
    r.run_id,
    r.status,
    extract(epoch FROM coalesce(r.completed_at, r.failed_at) - r.started_at)::double precision AS duration,
    (SELECT s.error_message FROM pgflow.step_states AS s WHERE s.run_id = r.run_id AND s.status = 'failed' LIMIT 1) AS error
FROM pgflow.runs AS r
WHERE r.run_id = ANY($1::uuid[]) AND coalesce(r.completed_at, r.failed_at) = ANY($2::timestamptz[])
