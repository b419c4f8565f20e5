-- Give a flow the options it has in code; nothing is written where they are the same. $1: its slug, then its options.
UPDATE pgflow.flows
SET opt_max_attempts = $2, opt_base_delay = $3, opt_timeout = $4
WHERE flow_slug = $1 AND (opt_max_attempts, opt_base_delay, opt_timeout) IS DISTINCT FROM ($2, $3, $4)
