-- The steps of a flow in order, with their dependencies. No row: the flow has no steps, or does not exist. $1: its slug.
SELECT
    step.step_slug,
    step.step_type,
    step.opt_max_attempts,
    step.opt_base_delay,
    step.opt_timeout,
    step.opt_start_delay,
    ARRAY(
        SELECT dep.dep_slug FROM pgflow.deps AS dep
        WHERE dep.flow_slug = step.flow_slug AND dep.step_slug = step.step_slug
        ORDER BY dep.dep_slug COLLATE "C"
    ) AS dependencies
FROM pgflow.steps AS step
WHERE step.flow_slug = $1
ORDER BY step.step_index
