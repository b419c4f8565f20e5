-- Messages in a flow's queue that belong to no task, among the first thousand. $1: the flow.
SELECT count(*)
FROM (SELECT msg_id FROM {queue} ORDER BY msg_id LIMIT 1000) AS message
WHERE NOT EXISTS (
    SELECT FROM pgflow.step_tasks AS t
    WHERE t.flow_slug = $1 AND t.message_id = message.msg_id {by_queue}
)
