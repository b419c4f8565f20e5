-- Starts one run.
SELECT run_id /* flowworker-bench */ FROM pgflow.start_flow(flow_slug => $1::text, input => 'null'::jsonb)
