-- pgflow's own table: its foreign key lets a worker claim, and other tools see the heartbeat and may deprecate it.
registered AS (
    INSERT INTO pgflow.workers AS w (worker_id, queue_name, function_name)
    SELECT worker_id, queue_name, 'py:' || worker_name
    FROM report JOIN written USING (worker_id)
    WHERE report.kind = 'flow'
    ORDER BY worker_id
    ON CONFLICT (worker_id) DO UPDATE SET last_heartbeat_at = clock_timestamp()
    RETURNING w.worker_id, w.deprecated_at IS NOT NULL AS deprecated
)
