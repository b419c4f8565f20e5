-- Everything a worker must know about the installation it meets, from the catalogue alone: versions say little (pgmq
-- may be no extension, users upgrade pgflow when they like), so columns, functions and rights are looked at.
WITH found_column AS MATERIALIZED (
    SELECT n.nspname || '.' || c.relname || '.' || a.attname AS name
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('c', 'p', 'r')
      AND (n.nspname IN ('flowworker', 'pgflow') OR n.nspname = 'pgmq' AND c.relname = 'message_record')
), found_function AS MATERIALIZED (
    SELECT p.oid, n.nspname || '.' || p.proname AS name, p.pronargs, p.prosrc, p.prosecdef, p.prokind,
           format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)) AS quoted,
           n.nspname || '.' || p.proname || '(' || oidvectortypes(p.proargtypes) || ')' AS signature
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('flowworker', 'pgflow', 'pgmq', 'realtime')
), found_table AS MATERIALIZED (
    SELECT c.oid, n.nspname || '.' || c.relname AS name, has_schema_privilege(n.oid, 'USAGE') AS reachable
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('cron', 'flowworker', 'pgflow', 'pgmq') AND c.relkind IN ('p', 'r')
)
SELECT
    current_user::text AS role,
    current_setting('server_version_num')::integer AS server_version,
    pg_is_in_recovery() AS in_recovery,
    current_setting('transaction_read_only') = 'on' AS read_only,
    EXISTS (SELECT FROM found_table WHERE name = 'pgmq.meta') AS pgmq,
    (SELECT extversion FROM pg_extension WHERE extname = 'pgmq') AS pgmq_extension,
    EXISTS (SELECT FROM found_column WHERE name = 'pgmq.message_record.headers') AS message_headers,
    EXISTS (SELECT FROM found_column WHERE name = 'pgmq.message_record.last_read_at') AS last_read_at,
    EXISTS (SELECT FROM found_function WHERE signature = 'pgmq.set_vt(text, bigint[], integer)') AS set_vt_batch,
    (SELECT coalesce(max(pronargs), 0) FROM found_function WHERE name = 'pgmq.enable_notify_insert') AS enable_notify_arity,
    EXISTS (SELECT FROM found_table WHERE name = 'pgmq.notify_insert_throttle') AS notify_throttle,
    EXISTS (SELECT FROM found_table WHERE name = 'pgflow.runs') AS pgflow,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.step_task_record.task_index') AS task_index,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.step_task_record.flow_input') AS claim_flow_input,
    (SELECT coalesce(max(pronargs), 0) FROM found_function WHERE name = 'pgflow.start_tasks') AS start_tasks_arity,
    (
        SELECT count(*) = 3 FROM found_function
        WHERE signature IN ('flowworker.array_of_map(uuid, text)',
                            'flowworker.start_map_tasks(text, bigint[], uuid)',
                            'flowworker.complete_map_tasks(uuid, text, integer[], jsonb[])')
          AND has_function_privilege(oid, 'EXECUTE')
    ) AS own_map_tasks,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.step_states.output') AS step_output,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.step_states.skip_reason') AS skipping,
    EXISTS (
        SELECT FROM pg_constraint k JOIN found_table t ON t.oid = k.conrelid
        WHERE t.name = 'pgflow.step_tasks' AND k.contype = 'c' AND pg_get_constraintdef(k.oid) LIKE '%''cancelled''%'
    ) AS cancelled_tasks,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.workers.deprecated_at') AS deprecated_at,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.workers.stopped_at') AS stopped_at,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.step_tasks.requeued_count') AS requeue_columns,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.step_tasks.queue_name') AS queue_columns,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.flows.queue_mode') AS queue_mode,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.worker_functions.start_mode') AS start_mode,
    EXISTS (SELECT FROM found_column WHERE name = 'pgflow.workers.pgflow_version') AS pgflow_version,
    EXISTS (SELECT FROM found_function WHERE signature = 'pgflow.mark_worker_stopped(uuid)') AS mark_worker_stopped,
    EXISTS (SELECT FROM found_function WHERE signature = 'pgflow.requeue_stalled_tasks()') AS requeue_stalled_tasks,
    (SELECT coalesce(max(pronargs), 0) FROM found_function WHERE name = 'pgflow.ensure_flow_compiled') AS ensure_compiled_arity,
    EXISTS (SELECT FROM found_function WHERE name = 'pgflow.set_vt_batch') AS flow_set_vt_batch,
    EXISTS (SELECT FROM found_function WHERE name = 'realtime.send') AS realtime,
    (SELECT prosrc FROM found_function WHERE signature = 'realtime.send(jsonb, text, text, boolean)') AS realtime_source,
    EXISTS (
        SELECT FROM found_table t JOIN pg_extension e ON e.extname = 'pg_cron' WHERE t.name = 'cron.job'
    ) AS cron,
    ARRAY(SELECT substr(name, 12) FROM found_column WHERE name LIKE 'flowworker.%' ORDER BY 1) AS own_columns,
    coalesce((
        SELECT has_schema_privilege('pgmq', 'CREATE') AND has_table_privilege(oid, 'INSERT')
        FROM found_table WHERE name = 'pgmq.meta'
    ), false) AS can_create_queue,
    coalesce((
        SELECT bool_and(reachable AND has_table_privilege(oid, 'INSERT'))
        FROM found_table WHERE name IN ('pgflow.deps', 'pgflow.flows', 'pgflow.steps')
    ), false) AS can_write_flows,
    coalesce((
        SELECT bool_and(reachable AND has_table_privilege(oid, 'UPDATE'))
        FROM found_table WHERE name IN ('pgflow.runs', 'pgflow.step_states', 'pgflow.step_tasks', 'pgflow.workers')
    ), false) AS can_work,
    coalesce((
        SELECT t.reachable AND has_table_privilege(t.oid, 'INSERT') AND has_table_privilege(t.oid, 'UPDATE')
            AND has_function_privilege(f.oid, 'EXECUTE')
        FROM found_table t, found_function f
        WHERE t.name = 'pgflow.worker_functions' AND f.signature = 'pgflow.track_worker_function(text, text)'
    ), false) AS can_track,
    coalesce((
        SELECT reachable AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')
        FROM found_table WHERE name = 'pgmq.notify_insert_throttle'
    ), false) AS can_notify,
    coalesce((
        SELECT reachable AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')
        FROM found_table WHERE name = 'flowworker.workers'
    ), false) AS can_report,
    ARRAY(
        SELECT quoted FROM found_function
        WHERE (name LIKE ANY ('{pgflow.%,pgmq.%}') AND NOT prosecdef OR name = 'realtime.send')
          AND prokind = 'f' AND NOT has_function_privilege(oid, 'EXECUTE')
        ORDER BY 1
    ) AS denied_functions
