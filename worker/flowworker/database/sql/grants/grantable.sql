-- What grant_statements needs to know, in one look at the catalogue. $1: the worker's role.
SELECT
    EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AS role_exists,
    current_user AS owner,
    ARRAY(
        SELECT nspname::text FROM pg_namespace
        WHERE nspname IN ('flowworker', 'pgflow', 'pgmq', 'realtime') ORDER BY 1
    ) AS schemas,
    ARRAY(
        SELECT n.nspname || '.' || c.relname
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('p', 'r')
          AND (n.nspname IN ('flowworker', 'pgflow')
               OR n.nspname = 'pgmq' AND (c.relname IN ('meta', 'notify_insert_throttle') OR c.relname ~ '^[aq]_'))
        ORDER BY 1
    ) AS tables
