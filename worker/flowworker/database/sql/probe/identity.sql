-- Which database this is, whatever it is reached by: the server's identifier survives a failover.
SELECT system_identifier || '/' || current_database() AS database FROM pg_control_system()
