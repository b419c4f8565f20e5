-- The steps of a run in the flow's order, with their tasks counted. Columns that only newer cores have
-- are read through to_jsonb, so that one statement serves every core.
SELECT
    s.step_slug,
    d.step_type AS kind,
    s.status,
    s.initial_tasks,
    s.error_message AS error,
    s.started_at,
    s.completed_at,
    s.failed_at,
    to_jsonb(s) ->> 'skip_reason' AS skip_reason,
    (to_jsonb(s) ->> 'skipped_at')::timestamptz AS skipped_at,
    nullif(to_jsonb(d) -> 'required_input_pattern', 'null')::text AS "when",
    nullif(to_jsonb(d) -> 'forbidden_input_pattern', 'null')::text AS unless,
    coalesce(t.queued, 0) AS queued,
    coalesce(t.started, 0) AS started,
    coalesce(t.completed, 0) AS completed,
    coalesce(t.failed, 0) AS failed,
    coalesce(t.skipped, 0) AS skipped,
    coalesce(t.cancelled, 0) AS cancelled,
    coalesce(t.attempts, 0) AS attempts,
    (
        SELECT coalesce(array_agg(e.dep_slug ORDER BY e.dep_slug), '{}')
        FROM pgflow.deps AS e
        WHERE e.flow_slug = s.flow_slug AND e.step_slug = s.step_slug
    ) AS dependencies
FROM pgflow.step_states AS s
INNER JOIN pgflow.steps AS d ON d.flow_slug = s.flow_slug AND d.step_slug = s.step_slug
LEFT JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE k.status = 'queued') AS queued,
        count(*) FILTER (WHERE k.status = 'started') AS started,
        count(*) FILTER (WHERE k.status = 'completed') AS completed,
        count(*) FILTER (WHERE k.status = 'failed') AS failed,
        count(*) FILTER (WHERE k.status = 'skipped') AS skipped,
        count(*) FILTER (WHERE k.status = 'cancelled') AS cancelled,
        sum(k.attempts_count) AS attempts
    FROM pgflow.step_tasks AS k
    WHERE k.run_id = s.run_id AND k.step_slug = s.step_slug
) AS t ON true
WHERE s.run_id = $1
ORDER BY d.step_index
