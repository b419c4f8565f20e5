-- What lies in the schemas that an installation uses, from the catalogue alone.
SELECT
    current_database() AS database,
    current_user AS role,
    current_setting('server_version_num')::integer AS server_version,
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only,
    (SELECT extversion FROM pg_extension WHERE extname = 'pgmq') AS pgmq_extension,
    (
        SELECT p.prosrc
        FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'realtime' AND p.proname = 'send' AND oidvectortypes(p.proargtypes) = 'jsonb, text, text, boolean'
    ) AS realtime_source,
    ARRAY(
        SELECT n.nspname || '.' || c.relname || '.' || a.attname
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('flowworker', 'pgflow', 'pgmq', 'realtime') AND a.attnum > 0 AND NOT a.attisdropped
          AND c.relkind IN ('c', 'm', 'p', 'r', 'v') AND c.relname !~ '^[aq]_'
        ORDER BY 1
    ) AS columns,
    ARRAY(
        SELECT n.nspname || '.' || p.proname || '(' || oidvectortypes(p.proargtypes) || ')'
        FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname IN ('flowworker', 'pgflow', 'pgmq', 'realtime')
        ORDER BY 1
    ) AS functions
