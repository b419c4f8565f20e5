-- How pgmq spells a queue, by which it finds its throttle row: core 0.17 creates the queue of flow `Mail` as `mail`.
-- $1: the queue.
SELECT queue_name::text FROM pgmq.meta WHERE lower(queue_name) = lower($1) ORDER BY queue_name = $1 DESC LIMIT 1
