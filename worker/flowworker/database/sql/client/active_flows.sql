-- Flows with runs under way.
SELECT f.flow_slug
FROM pgflow.flows AS f
WHERE ($1::text IS NULL OR f.flow_slug = $1) AND EXISTS (
    SELECT FROM pgflow.runs AS r WHERE r.flow_slug = f.flow_slug AND r.status = 'started'
)
ORDER BY f.flow_slug
