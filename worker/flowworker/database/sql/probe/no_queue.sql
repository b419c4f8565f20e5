-- None of the queues exists.
SELECT
    NULL::integer AS position,
    NULL::bigint AS msg_id,
    NULL::timestamptz AS vt,
    NULL::integer AS read_ct,
    NULL::jsonb AS message,
    NULL::jsonb AS headers
WHERE false
