-- The messages of plain queues. One is running when it is invisible for having been read more often than it failed or was
-- given back; otherwise it is due later. The counters come from headers that any client may write.
SELECT
    m.position,
    count(*) FILTER (WHERE m.vt <= now()) AS visible,
    count(*) FILTER (WHERE m.vt <= now()) AS startable,
    min(m.vt) FILTER (WHERE m.vt <= now()) AS oldest_startable_at,
    count(*) FILTER (WHERE m.is_delayed) AS delayed,
    min(m.vt) FILTER (WHERE m.is_delayed) AS due_at
FROM (
    SELECT
        q.position,
        q.vt,
        q.vt > now()
        AND q.read_ct
        <= coalesce(jsonb_path_query_first(q.headers, '$.flowworker.failures ? (@ > 0 && @ < 1000000)')::integer, 0)
        + coalesce(jsonb_path_query_first(q.headers, '$.flowworker.releases ? (@ > 0 && @ < 1000000)')::integer, 0)
            AS is_delayed
    FROM (
{queues}
    ) AS q
) AS m
GROUP BY m.position
