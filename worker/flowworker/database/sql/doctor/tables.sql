-- Tables behind the queues: every read of a message is an update of its row.
SELECT
    s.relname::text AS name,
    s.n_live_tup AS live,
    s.n_dead_tup AS dead,
    coalesce((SELECT option_value::integer FROM pg_options_to_table(c.reloptions) WHERE option_name = 'fillfactor'), 100)
        AS fillfactor,
    pg_table_size(c.oid) AS bytes
FROM pg_stat_user_tables AS s
JOIN pg_class AS c ON c.oid = s.relid
WHERE s.schemaname = 'pgmq' AND s.relname ~ '^q_'
ORDER BY s.relname
