-- One run. It may complete although a task failed: its step was skipped.
SELECT
    r.run_id,
    r.flow_slug,
    r.status,
    r.input::text AS input,
    r.output::text AS output,
    r.remaining_steps,
    r.started_at,
    r.completed_at,
    r.failed_at,
    {error} AS error
FROM pgflow.runs AS r
WHERE r.run_id = $1
