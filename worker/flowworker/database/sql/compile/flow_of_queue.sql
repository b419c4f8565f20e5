-- Flows whose queue a plain queue of this name would be. $1: the name.
SELECT flow_slug FROM pgflow.flows WHERE lower(flow_slug) = lower($1)
