-- Bring back a lost throttle row: no lock on the queue, no DDL. $1: the queue, $2: milliseconds.
INSERT INTO pgmq.notify_insert_throttle (queue_name, throttle_interval_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING
