-- Everything this worker claimed until $2 has been answered, and its handlers have begun.
-- A row that someone else has locked is left to the heartbeat: the connection is that of all claims of the process.
UPDATE flowworker.workers AS w
SET begun_at = greatest(w.begun_at, $2::timestamptz)
FROM (SELECT f.worker_id FROM flowworker.workers AS f WHERE f.worker_id = $1::uuid FOR NO KEY UPDATE SKIP LOCKED) AS free
WHERE w.worker_id = free.worker_id AND w.state <> 'lost'
