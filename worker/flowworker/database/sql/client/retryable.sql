-- Of failed runs `r`, those that many are retried of: failed by a moment, not cancelled, and not retried before.
AND r.failed_at <= {moment}
AND NOT EXISTS (SELECT FROM pgflow.runs AS again WHERE again.run_id = flowworker.retry_id(r.run_id))
AND NOT EXISTS (
    SELECT FROM flowworker.requests AS q
    WHERE q.target = r.run_id::text AND q.kind = 'run' AND q.action = 'cancel' AND q.outcome = 'cancelled'
)
