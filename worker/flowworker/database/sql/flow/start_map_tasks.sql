-- Tasks of maps, whose array our own function reads once for all of them.
UNION ALL
SELECT task.run_id, task.step_slug, task.task_index, task.msg_id, task.input, NULL
FROM (SELECT array_agg(msg_id ORDER BY msg_id) AS msg_ids FROM mine WHERE ours HAVING count(*) > 0) AS wanted
CROSS JOIN LATERAL flowworker.start_map_tasks($1::text, wanted.msg_ids, $4::uuid) AS task
