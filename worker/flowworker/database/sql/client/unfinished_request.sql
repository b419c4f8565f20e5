-- The oldest request for many runs that is not through, by what was asked for. $1 action, $2 filter.
SELECT q.request_id, q.actor, q.reason, q.requested_at, q.details::text AS details
FROM flowworker.requests AS q
WHERE
    q.kind = 'runs'
    AND q.outcome = 'begun'
    AND q.action = $1
    AND q.details -> 'filter' = $2::text::jsonb
    AND NOT EXISTS (
        SELECT FROM flowworker.requests AS d
        WHERE d.kind = 'runs' AND d.request_id > q.request_id AND d.outcome = 'done'
            AND d.details -> 'request' = to_jsonb(q.request_id)
    )
ORDER BY q.request_id
LIMIT 1
