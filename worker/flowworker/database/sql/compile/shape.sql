-- The steps of a flow in order, with their dependencies. No row: the flow has no steps, or does not exist. Conditions
-- exist from core 0.14 on, hence the detour through the row as JSON. $1: its slug.
SELECT
    step.step_slug,
    step.step_type,
    step.opt_max_attempts,
    step.opt_base_delay,
    step.opt_timeout,
    step.opt_start_delay,
    nullif(detail.row -> 'required_input_pattern', 'null')::text AS required_input_pattern,
    nullif(detail.row -> 'forbidden_input_pattern', 'null')::text AS forbidden_input_pattern,
    coalesce(detail.row ->> 'when_unmet', 'skip') AS when_unmet,
    coalesce(detail.row ->> 'when_exhausted', 'fail') AS when_exhausted,
    ARRAY(
        SELECT dep.dep_slug FROM pgflow.deps AS dep
        WHERE dep.flow_slug = step.flow_slug AND dep.step_slug = step.step_slug
        ORDER BY dep.dep_slug COLLATE "C"
    ) AS dependencies
FROM pgflow.steps AS step
CROSS JOIN LATERAL (SELECT to_jsonb(step) AS row) AS detail
WHERE step.flow_slug = $1
ORDER BY step.step_index
