-- The worker that a job's headers name as its holder.
LEFT JOIN flowworker.workers AS holder ON holder.worker_id = CASE
    WHEN q.headers -> 'flowworker' ->> 'holder' ~ '^[0-9a-f]{8,8}(-[0-9a-f]{4,4}){3,3}-[0-9a-f]{12,12}$'
    THEN (q.headers -> 'flowworker' ->> 'holder')::uuid
END
