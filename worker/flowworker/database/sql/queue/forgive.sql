-- Forgets losses of messages that are still held as given.
UPDATE {queue_table} AS q
SET headers = jsonb_set(q.headers, ARRAY['flowworker', 'losses'], '0')
FROM unnest($1::bigint[], $2::integer[]) AS held(msg_id, read_ct)
WHERE q.msg_id = held.msg_id AND q.read_ct = held.read_ct AND q.headers -> 'flowworker' ? 'losses'
