-- The server's own health. Of other roles' sessions only their existence is visible without pg_read_all_stats.
SELECT
    clock_timestamp() AS now,
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer AS connection_limit,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    (SELECT coalesce(max(age(backend_xmin)), 0) FROM pg_stat_activity) AS oldest_xmin_age,
    (SELECT coalesce(max(age(xmin)), 0) FROM pg_replication_slots) AS oldest_slot_age,
    (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
     FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS longest_transaction
