-- Stands for a queue that is not there: it holds no message.
(SELECT NULL::bigint AS msg_id, NULL::timestamptz AS vt WHERE false)
