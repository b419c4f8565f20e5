-- Claims tasks in one statement that reads nothing but functions: the functions take fresh snapshots while the outer
-- query keeps its old one, so a joined table of pgflow would hide tasks that were just committed, and started.
-- The locks on the messages last until the end, so that no other worker can hold the same message meanwhile.
-- Reads nothing when it arrives too late ($8), nor for a worker that was marked lost or has ended (the fence is its own
-- row), nor where nothing is visible: pgmq would look at every delayed message first.
-- The core may be migrated between two claims, so the shape of what start_tasks returns is no parameter: `flow_input` is
-- the record's field where the record has one (core 0.12 and newer), else the NULL of `wanted`, and a single step that
-- finds the run's input under the reserved key `run` (0.8 to 0.11) gets it beside the rest.
-- The time and the worker's state come with every answer: there is a row even where there is no message.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
),
me AS MATERIALIZED (
    SELECT w.state FROM flowworker.workers AS w WHERE w.worker_id = $4::uuid
),
message AS MATERIALIZED (
    SELECT m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers
    FROM clock CROSS JOIN LATERAL pgmq.read($1::text, $2::integer, CASE
        WHEN clock.now <= $8::timestamptz
            AND EXISTS (SELECT FROM me WHERE me.state NOT IN ('lost', 'stopped'))
            AND (SELECT min(q.vt) FROM {queue_table} AS q) <= clock.now
        THEN $3::integer ELSE 0
    END) AS m
),
mine AS MATERIALIZED (
    SELECT message.msg_id, step.visibility, step.is_map, {starts_map} AS ours
    FROM message
    JOIN unnest($5::text[], $6::integer[], $7::boolean[]) AS step(slug, visibility, is_map)
        ON step.slug = message.message ->> 'step_slug'
),
started AS MATERIALIZED (
    SELECT
        task.run_id, task.step_slug, task.task_index, task.msg_id, task.input,
        (SELECT flow_input FROM (SELECT task.*) AS record) AS flow_input
    FROM (
        SELECT array_agg(msg_id ORDER BY msg_id) AS msg_ids, NULL::jsonb AS flow_input
        FROM mine WHERE NOT ours HAVING count(*) > 0
    ) AS wanted
    CROSS JOIN LATERAL {start_tasks} AS task
    {start_map_tasks}
),
visible AS MATERIALIZED (
    SELECT moved.msg_id, moved.vt
    FROM (
        SELECT array_agg(msg_id ORDER BY msg_id) AS msg_ids, array_agg(visibility ORDER BY msg_id) AS visibilities
        FROM started JOIN mine USING (msg_id)
        HAVING count(*) > 0
    ) AS owned
    CROSS JOIN LATERAL pgflow.set_vt_batch($1::text, owned.msg_ids, owned.visibilities) AS moved
)
SELECT
    clock.now,
    me.state,
    message.msg_id,
    message.read_ct,
    extract(epoch FROM message.enqueued_at)::double precision AS enqueued_at,
    message.headers,
    {losses} AS losses,
    extract(epoch FROM coalesce(visible.vt, message.vt))::double precision AS vt,
    started.run_id,
    started.step_slug,
    started.task_index,
    CASE WHEN mine.is_map OR NOT started.input ? 'run' THEN started.input ELSE started.input - 'run' END AS input,
    CASE WHEN mine.is_map THEN started.flow_input ELSE coalesce(started.flow_input, started.input -> 'run') END AS flow_input
FROM clock
LEFT JOIN me ON true
LEFT JOIN message ON true
LEFT JOIN mine USING (msg_id)
LEFT JOIN started USING (msg_id)
LEFT JOIN visible USING (msg_id)
ORDER BY message.msg_id
