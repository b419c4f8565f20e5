-- Reads jobs and takes the lease on them.
SELECT m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers
FROM pgmq.read($1::text, $2::integer, $3::integer) AS m
ORDER BY m.msg_id
