-- Checks the fence of tasks still held, and prolongs the visibility of those that come close to its end. Messages
-- that are locked are being finished: waiting for them could only deadlock.
WITH held AS (
    SELECT *
    FROM unnest($2::bigint[], $3::uuid[], $4::text[], $5::integer[], $6::integer[], $7::timestamptz[])
        AS h(msg_id, run_id, step_slug, task_index, attempt, started_at)
),
kept AS (
    SELECT held.msg_id
    FROM held
    JOIN pgflow.runs AS r ON r.run_id = held.run_id AND r.status = 'started'
    JOIN pgflow.step_tasks AS t
        ON t.run_id = held.run_id AND t.step_slug = held.step_slug AND t.task_index = held.task_index
    WHERE t.status = 'started'
        AND t.last_worker_id = $1::uuid
        AND t.attempts_count = held.attempt
        AND t.started_at = held.started_at
),
ending AS (
    SELECT q.msg_id
    FROM {queue_table} AS q
    JOIN kept USING (msg_id)
    WHERE q.vt < clock_timestamp() + make_interval(secs => $8::double precision)
    FOR UPDATE OF q SKIP LOCKED
),
extended AS (
    UPDATE {queue_table} AS q
    SET vt = clock_timestamp() + make_interval(secs => $8::double precision * 2)
    FROM ending
    WHERE q.msg_id = ending.msg_id
    RETURNING q.msg_id
)
SELECT held.msg_id
FROM held
WHERE held.msg_id NOT IN (SELECT msg_id FROM kept)
