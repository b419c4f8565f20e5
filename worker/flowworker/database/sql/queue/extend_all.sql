-- Prolongs the leases of jobs of several queues by $4 seconds, and returns by position those that are no longer ours.
-- `place` is a queue's place among the parts, each of which is extend_part.sql for one queue.
WITH held AS MATERIALIZED (
    SELECT *
    FROM unnest($1::integer[], $2::bigint[], $3::integer[], $5::timestamptz[])
        WITH ORDINALITY AS h(place, msg_id, read_ct, enqueued_at, number)
),
{parts}
SELECT held.number::integer AS number
FROM held
WHERE held.number NOT IN ({kept})
