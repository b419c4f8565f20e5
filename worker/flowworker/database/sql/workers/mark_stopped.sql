-- The last word of workers that end in good order, with the counts since their last beat.
UPDATE flowworker.workers AS w
SET state = 'stopped', in_flight = 0, completed = ended.completed, failed = ended.failed, reported_at = clock_timestamp()
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS ended(worker_id, completed, failed)
WHERE w.worker_id = ended.worker_id AND w.state <> 'lost'
