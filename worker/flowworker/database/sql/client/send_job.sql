-- Puts one message into a queue; headers and a delay are part of pgmq since 1.5.
SELECT pgmq.send($1, $2::text::jsonb, $3::text::jsonb, $4::integer) AS msg_id
