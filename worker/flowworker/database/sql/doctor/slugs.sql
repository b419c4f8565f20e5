-- Every flow with the slugs of its steps.
SELECT flow.flow_slug, ARRAY(
    SELECT step.step_slug FROM pgflow.steps AS step WHERE step.flow_slug = flow.flow_slug ORDER BY step.step_index
) AS steps
FROM pgflow.flows AS flow
ORDER BY flow.flow_slug
