-- Whether the queue's throttle row is there: the table is UNLOGGED, a crash of PostgreSQL empties it. $1: the queue.
SELECT EXISTS (SELECT FROM pgmq.notify_insert_throttle WHERE queue_name = $1)
