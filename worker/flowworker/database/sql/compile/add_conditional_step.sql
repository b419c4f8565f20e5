-- Add one step with conditions, on a core that has them; else as add_step.sql. $9 and $10: patterns as JSON, then what
-- follows where they are not met and where attempts are exhausted.
SELECT FROM pgflow.add_step(
    flow_slug => $1, step_slug => $2, step_type => $3, deps_slugs => $4,
    max_attempts => $5, base_delay => $6, timeout => $7, start_delay => $8,
    required_input_pattern => $9, forbidden_input_pattern => $10, when_unmet => $11, when_exhausted => $12
)
