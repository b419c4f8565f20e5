-- The error of a run `r`. pgflow keeps none on the run itself: the first failed task's text stands for it, or a step's
-- where no task failed (a type violation names the map step).
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
END
