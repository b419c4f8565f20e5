-- Statements executed in this database by others than ourselves, as pg_stat_statements has counted them.
SELECT coalesce(sum(s.calls), 0)::bigint /* flowworker-bench */
FROM pg_stat_statements AS s
WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.query NOT LIKE '%flowworker-bench%'
