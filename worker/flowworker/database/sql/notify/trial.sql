-- A note on the channel of a queue, as pgmq's trigger would send it: shows a listener whether notes arrive at all.
SELECT pg_notify($1, '')
