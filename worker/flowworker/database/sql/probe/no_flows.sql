-- Queues need no pgflow, and may live in a database without it.
started AS (SELECT WHERE false),
work AS (SELECT NULL::text AS flow_slug, NULL::bigint AS in_flight, NULL::bigint AS stalled WHERE false),
endangered AS (SELECT '{}'::uuid[] AS worker_ids),
timeout AS (SELECT NULL::text AS flow_slug, NULL::integer AS longest, NULL::boolean AS queue_per_step WHERE false),
found AS (SELECT NULL::bigint AS position, NULL::jsonb AS options WHERE false)
