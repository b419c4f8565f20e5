-- A flow, and others whose slug differs only in case: they would share its queue's table. `queue_mode` exists from core
-- 0.17 on, hence the detour through the row as JSON. $1: the slug.
SELECT
    flow.flow_slug,
    flow.opt_max_attempts,
    flow.opt_base_delay,
    flow.opt_timeout,
    coalesce(to_jsonb(flow) ->> 'queue_mode', 'flow') AS queue_mode
FROM pgflow.flows AS flow
WHERE lower(flow.flow_slug) = lower($1)
