-- Workers that neither report nor said goodbye. $1: seconds of silence.
SELECT worker_name, slug, extract(epoch FROM clock_timestamp() - reported_at)::float8 AS silence
FROM flowworker.workers
WHERE state NOT IN ('stopped', 'lost') AND reported_at < clock_timestamp() - make_interval(secs => $1)
ORDER BY reported_at
LIMIT 20
