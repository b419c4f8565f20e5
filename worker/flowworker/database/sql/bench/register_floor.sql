-- Tasks name the worker that claims them; it must exist, and must not have been marked lost.
WITH own AS (
    INSERT INTO flowworker.workers (worker_id, boot_id, kind, slug, worker_name, version, state, slots)
    VALUES ($1::uuid, $1::uuid, 'flow', $2::text, 'floor', '0', 'running', 1)
)
INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES ($1::uuid, $2::text, 'floor')
