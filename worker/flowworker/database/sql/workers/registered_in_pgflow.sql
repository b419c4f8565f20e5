-- pgflow's own table: its foreign key lets a worker claim, and other tools see the heartbeat and may deprecate it. A row
-- that such a tool has locked is written by a later heartbeat. What pgflow calls the function is what all workers of a flow
-- have in common: see track.sql.
registered AS (
    INSERT INTO pgflow.workers AS w (worker_id, queue_name, function_name{version_column})
    SELECT report.worker_id, report.queue_name, 'py:' || report.slug{version_value}
    FROM report
    JOIN written USING (worker_id)
    LEFT JOIN LATERAL (
        SELECT w.worker_id FROM pgflow.workers AS w WHERE w.worker_id = report.worker_id LIMIT 1
    ) AS known ON true
    LEFT JOIN LATERAL (
        SELECT w.worker_id
        FROM pgflow.workers AS w
        WHERE w.worker_id = known.worker_id
        LIMIT 1
        FOR NO KEY UPDATE {unless_locked}
    ) AS free ON true
    WHERE report.kind = 'flow' AND (known.worker_id IS NULL OR free.worker_id IS NOT NULL)
    ORDER BY report.worker_id
    ON CONFLICT (worker_id) DO UPDATE SET last_heartbeat_at = clock_timestamp()
    RETURNING w.worker_id, w.deprecated_at IS NOT NULL AS deprecated
)
