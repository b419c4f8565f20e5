-- Runs without their inputs and outputs, newest or oldest first (`direction`), from behind one of them on ($9, $10;
-- `beyond`). What is not asked for is NULL; the statement is planned with the values, so that only what is asked for is
-- looked at. Errors are put together from steps and tasks, so they are looked at last, and only of failed runs.
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
    AND ($4::timestamptz IS NULL OR r.started_at < $4)
    AND ($5::uuid IS NULL OR r.run_id BETWEEN $5 AND $6::uuid)
    AND ($9::timestamptz IS NULL OR (r.started_at, r.run_id) {beyond} ($9, $10::uuid))
    AND ($8::text IS NULL OR NOT EXISTS (
        SELECT FROM jsonb_to_recordset($8::jsonb) AS wanted(path text[], value text)
        WHERE r.input #>> wanted.path IS DISTINCT FROM wanted.value
    ))
    AND ($7::text IS NULL OR r.status = 'failed' AND strpos(lower({error}), lower($7)) > 0)
ORDER BY r.started_at {direction}, r.run_id {direction}
LIMIT $11
