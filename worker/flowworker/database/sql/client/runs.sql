-- The newest runs of all flows or of one, without their inputs and outputs.
SELECT
    r.run_id,
    r.flow_slug,
    r.status,
    r.remaining_steps,
    (SELECT count(*) FROM pgflow.steps AS s WHERE s.flow_slug = r.flow_slug) AS steps,
    r.started_at,
    r.completed_at,
    r.failed_at,
    {error} AS error
FROM pgflow.runs AS r
WHERE
    ($1::text IS NULL OR r.flow_slug = $1)
    AND ($2::text IS NULL OR r.status = $2)
    AND ($3::timestamptz IS NULL OR r.started_at >= $3)
ORDER BY r.started_at DESC, r.run_id
LIMIT $4
