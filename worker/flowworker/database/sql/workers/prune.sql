-- Deletes what is no longer needed: workers a day after their end, or a week after a last beat that no worker judged,
-- and drains a day after they lapsed.
WITH workers AS (
    DELETE FROM flowworker.workers
    WHERE reported_at < clock_timestamp() - CASE WHEN state IN ('stopped', 'lost') THEN interval '1 day' ELSE interval '7 days' END
    RETURNING 1
),
drains AS (
    DELETE FROM flowworker.drains WHERE until < clock_timestamp() - interval '1 day' RETURNING 1
)
SELECT (SELECT count(*) FROM workers)::integer AS workers, (SELECT count(*) FROM drains)::integer AS drains
