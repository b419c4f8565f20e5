-- Whether pgmq knows the queue; its tables carry the name in lower case.
SELECT EXISTS (SELECT FROM pgmq.meta WHERE lower(queue_name) = lower($1::text))
