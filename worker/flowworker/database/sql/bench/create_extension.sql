-- Counts statements, where the server has preloaded it and the role may create it.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements
