-- Reads jobs as four lines of code would.
SELECT m.msg_id FROM pgmq.read($1::text, $2::integer, $3::integer) AS m
