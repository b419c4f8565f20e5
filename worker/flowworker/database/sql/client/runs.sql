-- The newest runs of all flows or of one, without their inputs and outputs; the error of a run that failed is found as
-- for a single run.
SELECT
    r.run_id,
    r.flow_slug,
    r.status,
    r.remaining_steps,
    (SELECT count(*) FROM pgflow.steps AS s WHERE s.flow_slug = r.flow_slug) AS steps,
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
WHERE
    ($1::text IS NULL OR r.flow_slug = $1)
    AND ($2::text IS NULL OR r.status = $2)
    AND ($3::timestamptz IS NULL OR r.started_at >= $3)
ORDER BY r.started_at DESC, r.run_id
LIMIT $4
