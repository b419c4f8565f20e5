-- Everything this worker claimed until $2 has been answered, and its handlers have begun.
UPDATE flowworker.workers SET begun_at = greatest(begun_at, $2::timestamptz) WHERE worker_id = $1::uuid AND state <> 'lost'
