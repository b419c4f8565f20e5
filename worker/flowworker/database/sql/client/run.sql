-- One run. pgflow keeps no error on the run itself: the first failed task's text stands for it, or a step's where no
-- task failed (a type violation names the map step). A run may complete although a task failed: its step was skipped.
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
    CASE WHEN r.status = 'failed' THEN
        coalesce(
            (
                SELECT t.error_message
                FROM pgflow.step_tasks AS t
                WHERE t.run_id = r.run_id AND t.status = 'failed'
                ORDER BY t.failed_at
                LIMIT 1
            ),
            (
                SELECT s.error_message
                FROM pgflow.step_states AS s
                WHERE s.run_id = r.run_id AND s.status = 'failed'
                ORDER BY s.failed_at
                LIMIT 1
            )
        )
    END AS error
FROM pgflow.runs AS r
WHERE r.run_id = $1
