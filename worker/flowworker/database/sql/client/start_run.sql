-- Starts a run. JSON travels as text, because the connection may be the caller's own, with codecs of its own.
SELECT
    run_id,
    flow_slug,
    status,
    input::text AS input,
    output::text AS output,
    remaining_steps,
    started_at,
    completed_at,
    failed_at
FROM pgflow.start_flow(flow_slug => $1, input => $2::text::jsonb, run_id => $3)
