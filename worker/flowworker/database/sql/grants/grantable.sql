-- What grant_statements needs to know, in one look at the catalogue. $1: the role.
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
    ) AS tables,
    ARRAY(
        SELECT format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes))
        FROM pg_proc AS p
        JOIN pg_namespace AS n ON n.oid = p.pronamespace
        JOIN pg_roles AS r ON r.rolname = $1
        WHERE (n.nspname IN ('flowworker', 'pgflow', 'pgmq') AND NOT p.prosecdef OR n.nspname = 'realtime' AND p.proname = 'send')
          AND p.prokind = 'f' AND NOT has_function_privilege(r.oid, p.oid, 'EXECUTE')
        ORDER BY 1
    ) AS functions,
    (
        SELECT current_database()::text FROM pg_roles
        WHERE rolname = $1 AND NOT has_database_privilege(oid, current_database(), 'CONNECT')
    ) AS unreachable_database
