-- Starts failed runs again, in a function of ours: see install/flowworker.sql. $1 runs, $2 the request.
SELECT * FROM flowworker.retry_runs($1::uuid[], $2::bigint)
