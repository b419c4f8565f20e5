-- Every flow with the number of its steps.
SELECT flow.flow_slug, (SELECT count(*) FROM pgflow.steps AS step WHERE step.flow_slug = flow.flow_slug) AS steps
FROM pgflow.flows AS flow
ORDER BY flow.flow_slug
