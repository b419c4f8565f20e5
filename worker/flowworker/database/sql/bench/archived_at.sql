-- When the jobs of a queue were archived, of those sent since a moment.
SELECT a.archived_at AS moment /* flowworker-bench */
FROM {archive_table} AS a
WHERE a.enqueued_at >= $1::timestamptz
ORDER BY a.archived_at
