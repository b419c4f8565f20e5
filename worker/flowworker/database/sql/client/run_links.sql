-- Which of these runs there are: the one that a run does again, and the one that does it again.
-- $1 flow, $2 ids.
SELECT r.run_id
FROM pgflow.runs AS r
WHERE r.run_id = ANY($2::uuid[]) AND r.flow_slug = $1
