-- Sends the payload of a failed or cancelled job again and notes the new job's id on the old one, so that a repeated call finds it and
-- sends nothing. FOR UPDATE makes a concurrent call wait and then see that note.
WITH ended AS (
    SELECT
        a.msg_id,
        a.message,
        a.headers
    FROM {archive} AS a
    WHERE a.msg_id = $2 AND a.headers -> 'flowworker' ->> 'status' IN ('failed', 'cancelled')
    FOR UPDATE
),

sent AS MATERIALIZED (
    SELECT
        f.msg_id,
        s.new_id
    FROM ended AS f
    CROSS JOIN LATERAL pgmq.send(
        $1, f.message, f.headers || jsonb_build_object('flowworker', jsonb_build_object('retry_of', f.msg_id))
    ) AS s (new_id)
    WHERE f.headers -> 'flowworker' -> 'retried_as' IS NULL
)

UPDATE {archive} AS a
SET headers = jsonb_set(a.headers, '{flowworker,retried_as}', to_jsonb(sent.new_id))
FROM sent
WHERE a.msg_id = sent.msg_id
RETURNING sent.new_id
