-- A flow's steps with their effective timeouts; no row when the database has no such flow.
SELECT s.step_slug, coalesce(s.opt_timeout, f.opt_timeout) AS timeout
FROM pgflow.flows AS f LEFT JOIN pgflow.steps AS s ON s.flow_slug = f.flow_slug
WHERE f.flow_slug = $1::text
