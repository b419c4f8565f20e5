-- Whether a worker of this flow or queue is registered and at work.
SELECT EXISTS (SELECT FROM flowworker.workers WHERE slug = $1::text AND state = 'running') /* flowworker-bench */
