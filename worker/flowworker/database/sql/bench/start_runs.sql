-- Starts many runs at once; the input depends on the row, or the function would be called but once.
SELECT count(*) /* flowworker-bench */
FROM generate_series(1, $2::integer) AS n
CROSS JOIN LATERAL pgflow.start_flow(flow_slug => $1::text, input => to_jsonb(n)) AS run
