-- Runs without their inputs and outputs, newest or oldest first (`direction`), from behind one of them on ($9, $10;
-- `beyond`), at most $11; `also` is a further condition.
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
    ($9::timestamptz IS NULL OR (r.started_at, r.run_id) {beyond} ($9, $10::uuid))
    AND {filter}
    {also}
ORDER BY r.started_at {direction}, r.run_id {direction}
LIMIT $11
