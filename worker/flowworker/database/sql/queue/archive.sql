-- Ends jobs: moves their rows to the archive, with what became of them in the headers. The fence is read_ct: a job that
-- anyone has read since has a higher one; and enqueued_at, because ids begin anew where a queue is dropped and created. The delete locks as it goes: where it has to wait for a row, it checks the
-- fence again on the row's newest version. The columns are named, because pgmq's versions differ in them.
-- `unless_locked` is nothing, or unless_locked.sql.
WITH result AS (
    SELECT r.*
    FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[], $4::jsonb[]) AS r(msg_id, read_ct, enqueued_at, ours)
    {unless_locked}
),
ended AS (
    DELETE FROM {queue_table} AS q
    USING result
    WHERE q.msg_id = result.msg_id AND q.read_ct = result.read_ct AND q.enqueued_at = result.enqueued_at
    RETURNING {columns}, q.headers, result.ours
)
INSERT INTO {archive_table} AS q ({plain_columns}, headers)
SELECT
    {columns},
    CASE jsonb_typeof(q.headers) WHEN 'object' THEN q.headers ELSE '{}' END
    || jsonb_build_object('flowworker', (CASE jsonb_typeof(q.headers -> 'flowworker') WHEN 'object' THEN q.headers -> 'flowworker' ELSE '{}' END || q.ours) - ARRAY['holder', 'claimed_at'])
FROM ended AS q
RETURNING q.msg_id
