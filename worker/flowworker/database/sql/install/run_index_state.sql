-- Whether pgflow's runs can be read in the order in which they started, by whosever index; whether ours is there and was
-- not finished; and whether this role may make one. No row without pgflow.
SELECT
    EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_am AS m ON m.oid = x.relam
        WHERE i.indrelid = c.oid AND a.attname = 'started_at' AND m.amname = 'btree' AND i.indisvalid AND i.indpred IS NULL
    ) AS exists,
    EXISTS (
        SELECT FROM pg_catalog.pg_index AS i
        JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND x.relname = 'flowworker_runs_started' AND NOT i.indisvalid
    ) AS unfinished,
    pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_ours
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'pgflow' AND c.relname = 'runs' AND c.relkind IN ('r', 'p')
