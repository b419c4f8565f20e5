-- Ends tasks of failed runs: pgflow marks such a task failed and archives its message, and changes nothing else.
SELECT count(*)
FROM unnest($1::uuid[], $2::text[], $3::integer[]) AS ended(run_id, step_slug, task_index)
CROSS JOIN LATERAL pgflow.fail_task(ended.run_id, ended.step_slug, ended.task_index, 'the run had failed') AS settled
