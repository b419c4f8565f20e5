-- When a worker of this flow or queue last stopped or was marked lost.
SELECT w.ended_at
    FROM flowworker.workers AS w
    WHERE w.kind = served.kind AND w.slug = served.slug AND w.ended_at IS NOT NULL
    ORDER BY w.ended_at DESC
    LIMIT 1
