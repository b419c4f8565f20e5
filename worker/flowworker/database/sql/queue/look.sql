-- What became of jobs that a write did not reach: put back or ended by an earlier try of ours whose reply was lost, or
-- taken by somebody else.
SELECT q.msg_id, q.read_ct, q.headers, false AS archived
FROM {queue_table} AS q
WHERE q.msg_id = ANY($1::bigint[])
UNION ALL
SELECT a.msg_id, a.read_ct, a.headers, true
FROM {archive_table} AS a
WHERE a.msg_id = ANY($1::bigint[])
