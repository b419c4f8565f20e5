-- Create the flow and its queue. $1: slug, then its options.
SELECT FROM pgflow.create_flow(flow_slug => $1, max_attempts => $2, base_delay => $3, timeout => $4)
