-- Makes a session ours: a role's or database's defaults must not change what a statement means or how long it may take.
-- Settings that a server's version or platform does not know are left out. Returns when the session began, which together
-- with its pid names it for as long as the server runs.
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::text[]) AS w(name, value)
),
applied AS MATERIALIZED (
    SELECT set_config(known.name, wanted.value, false)
    FROM wanted
    JOIN pg_catalog.pg_settings AS known ON known.name = wanted.name AND known.context = 'user'
    WHERE wanted.name <> 'client_connection_check_interval' OR version() ~ 'linux'
)
SELECT s.pid, s.backend_start, (SELECT count(*) FROM applied) AS settings
FROM pg_catalog.pg_stat_activity AS s
WHERE s.pid = pg_backend_pid()
