-- Follows fenced_results where the results at the positions $8 may fail their run, by a condition of a later step that
-- is looked at when the last task of theirs is done. As in fail.sql, the messages of tasks that wait are then locked
-- before the core is called, in the claim's order.
, waiting AS MATERIALIZED (
    SELECT q.msg_id
    FROM (
        SELECT fenced.run_id
        FROM fenced
        JOIN pgflow.step_states AS p ON p.run_id = fenced.run_id AND p.step_slug = fenced.step_slug
        WHERE fenced.position = ANY($8::bigint[])
        GROUP BY fenced.run_id
        HAVING bool_or(p.remaining_tasks <= (
            SELECT count(*) FROM fenced AS same WHERE (same.run_id, same.step_slug) = (p.run_id, p.step_slug)
        ))
    ) AS ending
    JOIN pgflow.step_tasks AS t ON t.run_id = ending.run_id AND t.status = 'queued'
    JOIN {queue_table} AS q ON q.msg_id = t.message_id
    ORDER BY q.msg_id
    FOR UPDATE OF q
)
