-- Which database this is, whatever it is reached by: the server's identifier survives a failover.
SELECT s.system_identifier OPERATOR(pg_catalog.||) '/' OPERATOR(pg_catalog.||) pg_catalog.current_database() AS database
FROM pg_catalog.pg_control_system() AS s
