-- The same before pgmq knew a throttle. $1: the queue.
SELECT pgmq.enable_notify_insert($1)
