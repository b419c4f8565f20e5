-- When a run started.
SELECT started_at FROM pgflow.runs WHERE run_id = $1
