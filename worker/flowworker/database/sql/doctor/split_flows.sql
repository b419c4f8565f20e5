-- Flows with a queue for each step, as core 0.17 allows them; `queue_mode` exists from there on, hence the detour through
-- the row as JSON.
SELECT flow.flow_slug FROM pgflow.flows AS flow WHERE to_jsonb(flow) ->> 'queue_mode' <> 'flow' ORDER BY flow.flow_slug
