-- Server processes that work for others than ourselves in this database.
SELECT pid /* flowworker-bench */
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> $1::text
