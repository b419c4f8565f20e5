-- Writes outputs behind the fence. The inner ORDER BY … OFFSET 0 makes the fenced rows be fetched, and locked, before
-- the first call changes a run: pulled one by one, LockRows would skip the other rows of that run. The order keeps
-- overlapping batches from deadlocking.
WITH {fenced_results}{waiting}
SELECT f.position::integer, done.status, done.error_message AS error, NULL::double precision AS retry_in, now() AS written_at
FROM (SELECT fenced.* FROM fenced {after_waiting} ORDER BY run_id, step_slug, task_index OFFSET 0) AS f
LEFT JOIN LATERAL pgflow.complete_task(f.run_id, f.step_slug, f.task_index, f.output) AS done ON true
