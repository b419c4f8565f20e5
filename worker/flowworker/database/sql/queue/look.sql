-- What became of jobs that a write did not reach: put back or ended by an earlier try of ours whose reply was lost, or
-- taken by another worker. A row with the id of one of them that was sent at another time is another job.
SELECT q.msg_id, q.read_ct, q.headers, false AS archived
FROM unnest($1::bigint[], $2::timestamptz[]) AS job(msg_id, enqueued_at)
JOIN {queue_table} AS q ON q.msg_id = job.msg_id AND q.enqueued_at = job.enqueued_at
UNION ALL
SELECT a.msg_id, a.read_ct, a.headers, true
FROM unnest($1::bigint[], $2::timestamptz[]) AS job(msg_id, enqueued_at)
JOIN {archive_table} AS a ON a.msg_id = job.msg_id AND a.enqueued_at = job.enqueued_at
