-- Prolongs the leases of jobs still held, and returns those that are no longer ours. A locked row is being finished.
WITH held AS (
    SELECT * FROM unnest($1::bigint[], $2::integer[]) AS h(msg_id, read_ct)
),
kept AS (
    SELECT q.msg_id FROM held JOIN {queue_table} AS q ON q.msg_id = held.msg_id AND q.read_ct = held.read_ct
),
free AS (
    SELECT q.msg_id
    FROM held JOIN {queue_table} AS q ON q.msg_id = held.msg_id AND q.read_ct = held.read_ct
    FOR UPDATE OF q SKIP LOCKED
),
extended AS (
    UPDATE {queue_table} AS q
    SET vt = clock_timestamp() + make_interval(secs => $3::double precision)
    FROM free
    WHERE q.msg_id = free.msg_id
    RETURNING q.msg_id
)
SELECT held.msg_id FROM held WHERE held.msg_id NOT IN (SELECT msg_id FROM kept)
