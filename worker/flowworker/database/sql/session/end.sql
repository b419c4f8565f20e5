-- Ends sessions that this process has given up. A role may end its own sessions; the time each began keeps us from a
-- successor with the same pid. Returns those that are still there.
SELECT s.pid, pg_terminate_backend(s.pid) AS ended
FROM unnest($1::integer[], $2::timestamptz[]) AS given_up(pid, backend_start)
JOIN pg_catalog.pg_stat_activity AS s ON s.pid = given_up.pid AND s.backend_start = given_up.backend_start
WHERE s.pid <> pg_backend_pid()
