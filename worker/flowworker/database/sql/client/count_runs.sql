-- How many runs there are of each flow; `also` is a further condition.
SELECT r.flow_slug, count(*) AS runs
FROM pgflow.runs AS r
WHERE
    {filter}
    {also}
GROUP BY r.flow_slug
ORDER BY runs DESC, r.flow_slug
