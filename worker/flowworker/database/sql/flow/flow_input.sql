-- The input a run was started with.
SELECT input FROM pgflow.runs WHERE run_id = $1::uuid
