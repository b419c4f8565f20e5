-- What inserts into a queue need in order to wake listeners, from the catalogue alone. $1: the queue.
SELECT
    current_user::text AS role,
    (SELECT coalesce(max(p.pronargs), 0)
     FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = 'pgmq' AND p.proname = 'enable_notify_insert') AS enable_arity,
    queue.oid IS NOT NULL AS queue_exists,
    coalesce(pg_has_role(queue.relowner, 'USAGE'), false) AS owns_queue,
    EXISTS (
        SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE t.tgrelid = queue.oid AND p.proname = 'notify_queue_listeners' AND t.tgenabled <> 'D'
    ) AS has_trigger,
    coalesce(has_table_privilege(list.oid, 'SELECT'), false) AS may_list,
    throttle.oid IS NOT NULL AS has_throttle,
    coalesce(has_table_privilege(throttle.oid, 'SELECT'), false) AS may_read,
    coalesce(has_table_privilege(throttle.oid, 'INSERT'), false)
        AND coalesce(has_table_privilege(throttle.oid, 'UPDATE'), false) AS may_write
FROM (SELECT 'q_' || lower($1) AS name) AS wanted
LEFT JOIN pg_namespace schema ON schema.nspname = 'pgmq'
LEFT JOIN pg_class queue ON queue.relnamespace = schema.oid AND queue.relname = wanted.name AND queue.relkind IN ('p', 'r')
LEFT JOIN pg_class throttle ON throttle.relnamespace = schema.oid AND throttle.relname = 'notify_insert_throttle'
LEFT JOIN pg_class list ON list.relnamespace = schema.oid AND list.relname = 'meta'
