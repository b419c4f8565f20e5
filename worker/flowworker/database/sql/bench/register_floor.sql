-- Tasks name the worker that claims them, and the worker must exist.
INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES ($1::uuid, $2::text, 'floor')
