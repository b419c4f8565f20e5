-- The last word of workers that end in good order.
UPDATE flowworker.workers
SET state = 'stopped', in_flight = 0, reported_at = clock_timestamp()
WHERE worker_id = ANY($1::uuid[]) AND state <> 'lost'
