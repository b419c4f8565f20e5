-- Sends many jobs at once.
SELECT count(*) /* flowworker-bench */
FROM pgmq.send_batch($1::text, ARRAY(SELECT jsonb_build_object('number', n) FROM generate_series(1, $2::integer) AS n))
