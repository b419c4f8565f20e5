-- Queues need no pgflow, and may live in a database without it.
registered AS (SELECT NULL::uuid AS worker_id, false AS deprecated WHERE false)
