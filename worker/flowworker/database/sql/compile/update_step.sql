-- Give a step the options it has in code; NULL inherits the flow's. $1: flow, $2: step, then its options.
UPDATE pgflow.steps
SET opt_max_attempts = $3, opt_base_delay = $4, opt_timeout = $5, opt_start_delay = $6
WHERE flow_slug = $1 AND step_slug = $2
  AND (opt_max_attempts, opt_base_delay, opt_timeout, opt_start_delay) IS DISTINCT FROM ($3, $4, $5, $6)
