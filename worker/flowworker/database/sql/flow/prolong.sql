-- Prolongs the visibility of messages whose tasks are held, to $2 seconds from now. A locked row is being finished:
-- waiting for it could only deadlock. Returns when each becomes visible.
WITH ending AS (
    SELECT q.msg_id FROM {queue_table} AS q WHERE q.msg_id = ANY($1::bigint[]) FOR UPDATE OF q SKIP LOCKED
)
UPDATE {queue_table} AS q
SET vt = greatest(q.vt, clock_timestamp() + make_interval(secs => $2::double precision))
FROM ending
WHERE q.msg_id = ending.msg_id
RETURNING q.msg_id, q.vt
