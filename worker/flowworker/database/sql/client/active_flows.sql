-- Flows with runs under way, and whether the queue that has the flow's name is there.
SELECT f.flow_slug, to_regclass(format('pgmq.%I', 'q_' || lower(f.flow_slug))) IS NOT NULL AS has_queue
FROM pgflow.flows AS f
WHERE ($1::text IS NULL OR f.flow_slug = $1) AND EXISTS (
    SELECT FROM pgflow.runs AS r WHERE r.flow_slug = f.flow_slug AND r.status = 'started'
)
ORDER BY f.flow_slug
