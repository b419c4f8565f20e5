-- In an installation from before nothing says when a worker ended.
SELECT NULL::timestamptz AS ended_at, NULL::uuid AS worker_id
