-- What the steps of runs returned; complete once every run has ended.
SELECT r.run_id, r.status, t.step_slug, t.output /* flowworker-bench */
FROM pgflow.runs AS r
JOIN pgflow.step_tasks AS t USING (run_id)
WHERE r.run_id = ANY($1::uuid[])
