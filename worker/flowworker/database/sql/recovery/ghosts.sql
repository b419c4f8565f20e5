-- Messages at the head of the queue whose task can never start again. Bounded, and only the visible: claims read the
-- head first, so this is where such a message does harm. LIMIT keeps each look-up an index probe.
SELECT head.msg_id
FROM (
    SELECT q.msg_id FROM {queue_table} AS q WHERE q.vt <= clock_timestamp() ORDER BY q.msg_id LIMIT $2::integer
) AS head
CROSS JOIN LATERAL (
    SELECT t.status, r.status AS run_status
    FROM pgflow.step_tasks AS t JOIN pgflow.runs AS r ON r.run_id = t.run_id
    WHERE t.flow_slug = $1::text AND t.message_id = head.msg_id {by_queue}
    LIMIT 1
) AS task
WHERE task.status IN ('completed', 'failed', 'skipped', 'cancelled') OR task.run_status <> 'started'
