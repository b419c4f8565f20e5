-- An inner join, which no planner may drop.
CROSS JOIN (SELECT count(*) FROM waiting) AS waited
