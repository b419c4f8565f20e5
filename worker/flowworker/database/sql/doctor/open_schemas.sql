-- Schemas in which others than their owners may create objects that our sessions, or functions of an installation,
-- would take for the ones they mean.
SELECT quote_ident(n.nspname) AS name, EXISTS (
           SELECT FROM aclexplode(n.nspacl) AS granted WHERE granted.grantee = 0 AND granted.privilege_type = 'CREATE'
       ) AS by_all
FROM pg_namespace AS n
WHERE (n.nspname IN ('flowworker', 'pgflow', 'pgmq', 'realtime', 'public') OR n.nspname = ANY (current_schemas(false)))
  AND NOT n.nspname LIKE 'pg\_%'
  AND (
      EXISTS (
          SELECT FROM aclexplode(n.nspacl) AS granted WHERE granted.grantee = 0 AND granted.privilege_type = 'CREATE'
      )
      OR n.nspname IN ('flowworker', 'pgflow', 'pgmq') AND has_schema_privilege(n.oid, 'CREATE')
         AND NOT pg_has_role(n.nspowner, 'USAGE')
  )
ORDER BY 1
