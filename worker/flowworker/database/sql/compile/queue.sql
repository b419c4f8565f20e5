-- A queue, and others whose name differs only in case: they would share its table. $1: the name.
SELECT queue_name::text FROM pgmq.meta WHERE lower(queue_name) = lower($1)
