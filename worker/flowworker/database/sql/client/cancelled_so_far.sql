-- How many runs a request for many has cancelled.
SELECT count(*)
FROM flowworker.requests AS q
WHERE q.request_id > $1::bigint AND q.action = 'cancel' AND q.kind = 'run' AND q.outcome = 'cancelled'
    AND q.details -> 'request' = to_jsonb($1::bigint)
