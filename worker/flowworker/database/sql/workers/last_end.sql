-- Which worker of this flow or queue last stopped or was marked lost, and when.
SELECT w.ended_at, w.worker_id
    FROM flowworker.workers AS w
    WHERE w.kind = served.kind AND w.slug = served.slug AND w.ended_at IS NOT NULL
    ORDER BY w.ended_at DESC
    LIMIT 1
