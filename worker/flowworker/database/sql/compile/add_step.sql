-- Add one step to a flow that is being created. Options that are NULL are inherited from the flow, so that tuning the
-- flow later reaches the step. $1: flow, $2: step, $3: single or map, $4: dependencies, then the step's options.
SELECT FROM pgflow.add_step(
    flow_slug => $1, step_slug => $2, step_type => $3, deps_slugs => $4,
    max_attempts => $5, base_delay => $6, timeout => $7, start_delay => $8
)
