-- Steps whose tasks may run for longer than their flow's timeout says.
SELECT flow.flow_slug, step.step_slug, step.opt_timeout AS timeout, flow.opt_timeout AS flow_timeout
FROM pgflow.steps AS step
JOIN pgflow.flows AS flow ON flow.flow_slug = step.flow_slug
WHERE step.opt_timeout > flow.opt_timeout
ORDER BY flow.flow_slug, step.step_index
