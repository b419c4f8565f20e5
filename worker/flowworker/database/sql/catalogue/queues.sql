-- Every queue of pgmq, those of flows too.
SELECT
    meta.queue_name::text AS name,
    meta.is_partitioned AS partitioned,
    meta.is_unlogged AS unlogged
FROM pgmq.meta
ORDER BY meta.queue_name
