-- The messages of flows, and whether the queued task of a started run stands behind each; a message without one (its task
-- runs, or can never start again) is only depth. Ids of messages are unique within a queue only: on a database with many
-- flows an id may lead to as many tasks. So only the first few are looked at, which mostly suffices and is cheap; else the
-- task is found by what the message says. What is no id of a run leads nowhere instead of failing. OFFSET and LIMIT keep
-- each look-up what it is, one probe of an index, whatever the planner thinks of others.
SELECT
    m.position,
    count(*) FILTER (WHERE m.is_visible) AS visible,
    count(*) FILTER (WHERE m.has_task AND m.is_visible) AS startable,
    min(m.vt) FILTER (WHERE m.has_task AND m.is_visible) AS oldest_startable_at,
    count(*) FILTER (WHERE m.has_task AND NOT m.is_visible) AS delayed,
    min(m.vt) FILTER (WHERE m.has_task AND NOT m.is_visible) AS due_at
FROM (
    SELECT
        q.position,
        q.vt,
        q.vt <= now() AS is_visible,
        CASE
            WHEN EXISTS (
                SELECT
                FROM (
                    SELECT n.flow_slug, n.run_id
                    FROM pgflow.step_tasks AS n
                    WHERE n.message_id = q.msg_id AND n.status = 'queued'
                    LIMIT 4
                ) AS t
                JOIN pgflow.runs AS r ON r.run_id = t.run_id
                WHERE t.flow_slug = ($2::text[])[q.position] AND r.status = 'started'
            ) THEN true
            ELSE EXISTS (
                SELECT
                FROM (
                    SELECT
                        replace(q.message ->> 'run_id', '-', '') AS run,
                        jsonb_path_query_first(q.message, '$.task_index ? (@ >= 0 && @ < 1000000000)')::integer
                            AS task_index
                    OFFSET 0
                ) AS said
                CROSS JOIN LATERAL (
                    SELECT n.flow_slug, n.run_id, n.message_id, n.status
                    FROM pgflow.step_tasks AS n
                    WHERE
                        n.run_id = CASE
                            WHEN length(said.run) = 32 AND btrim(said.run, '0123456789abcdef') = '' THEN said.run::uuid
                        END
                        AND n.step_slug = q.message ->> 'step_slug'
                        AND n.task_index = said.task_index
                    LIMIT 1
                ) AS t
                JOIN pgflow.runs AS r ON r.run_id = t.run_id
                WHERE
                    t.flow_slug = ($2::text[])[q.position]
                    AND t.message_id = q.msg_id
                    AND t.status = 'queued'
                    AND r.status = 'started'
            )
        END AS has_task
    FROM (
{queues}
    ) AS q
    OFFSET 0
) AS m
GROUP BY m.position
