-- Creates the trigger (a lock on the queue that waits for all transactions that write to it) and the throttle row.
-- $1: the queue, $2: milliseconds between two notifications.
SELECT pgmq.enable_notify_insert($1, $2)
