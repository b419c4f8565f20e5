-- The error of a run `r`. pgflow keeps none on the run itself: the text of the first failed task of a failed step stands
-- for it (a task may also have failed in a step that was skipped for it), or the step's where no task failed (its
-- condition was not met).
CASE WHEN r.status = 'failed' THEN
    coalesce(
        (
            SELECT t.error_message
            FROM pgflow.step_tasks AS t
            WHERE t.run_id = r.run_id AND t.status = 'failed' AND EXISTS (
                SELECT FROM pgflow.step_states AS s
                WHERE s.run_id = t.run_id AND s.step_slug = t.step_slug AND s.status = 'failed'
            )
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
