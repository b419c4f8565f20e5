-- Functions of the schemas that an installation uses which run with their owner's rights and look names up by the
-- caller's search_path: who may call one, and may create a function somewhere, can have their own run as the owner.
SELECT
    format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)) AS name,
    pg_has_role(p.proowner, 'USAGE') AS is_ours
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname IN ('flowworker', 'pgflow', 'pgmq', 'realtime') AND p.prosecdef AND p.prokind IN ('f', 'p')
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE setting LIKE 'search\_path=%')
ORDER BY 1
