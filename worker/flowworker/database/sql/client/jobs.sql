-- Jobs of one queue, newest first: waiting and running ones from the queue's table, ended ones from its archive.
-- A message is running when it was read more often than it failed or was given back, and is invisible for that. The
-- counters come from headers that any client may write: what is no sensible number counts as none.
SELECT *
FROM (
    (
        SELECT
            q.msg_id,
            q.state,
            q.enqueued_at,
            CASE WHEN q.vt > clock_timestamp() THEN q.vt END AS visible_at,
            NULL::timestamptz AS ended_at,
            q.failures + (q.state = 'running')::integer AS attempts,
            q.message::text AS payload,
            q.headers::text AS headers,
            NULL::text AS result,
            q.own ->> 'error' AS error,
            q.own ->> 'stacktrace' AS stacktrace,
            NULL::float8 AS duration_ms,
            NULL::text AS worker_id,
            NULL::bigint AS retried_as
        FROM (
            SELECT
                m.*,
                c.own,
                c.failures,
                CASE
                    WHEN m.vt <= clock_timestamp() THEN 'waiting'
                    WHEN m.read_ct > c.failures + c.releases THEN 'running'
                    ELSE 'delayed'
                END AS state
            FROM {queue} AS m
            CROSS JOIN LATERAL (
                SELECT
                    m.headers -> 'flowworker' AS own,
                    coalesce(
                        jsonb_path_query_first(m.headers, '$.flowworker.failures ? (@ > 0 && @ < 1000000)')::integer, 0
                    ) AS failures,
                    coalesce(
                        jsonb_path_query_first(m.headers, '$.flowworker.releases ? (@ > 0 && @ < 1000000)')::integer, 0
                    ) AS releases
            ) AS c
            WHERE $1::bigint IS NULL OR m.msg_id = $1
        ) AS q
        WHERE $2::text IS NULL OR q.state = $2
        ORDER BY q.msg_id DESC
        LIMIT $3
    )
    UNION ALL
    (
        SELECT
            a.msg_id,
            a.state,
            a.enqueued_at,
            NULL::timestamptz AS visible_at,
            a.archived_at AS ended_at,
            coalesce(jsonb_path_query_first(a.own, '$.attempt ? (@ > 0 && @ < 1000000)')::integer, a.read_ct) AS attempts,
            a.message::text AS payload,
            a.headers::text AS headers,
            (a.own -> 'result')::text AS result,
            a.own ->> 'error' AS error,
            a.own ->> 'stacktrace' AS stacktrace,
            jsonb_path_query_first(a.own, '$.duration_ms ? (@ >= 0 && @ < 1000000000000)')::float8 AS duration_ms,
            a.own ->> 'worker_id' AS worker_id,
            jsonb_path_query_first(a.own, '$.retried_as ? (@ > 0 && @ < 9000000000000000000)')::bigint AS retried_as
        FROM (
            SELECT
                r.*,
                r.headers -> 'flowworker' AS own,
                CASE
                    WHEN r.headers -> 'flowworker' ->> 'status' IN ('done', 'failed', 'cancelled')
                        THEN r.headers -> 'flowworker' ->> 'status'
                    ELSE 'archived'
                END AS state
            FROM {archive} AS r
            WHERE $1::bigint IS NULL OR r.msg_id = $1
        ) AS a
        WHERE $2::text IS NULL OR a.state = $2
        ORDER BY a.msg_id DESC
        LIMIT $3
    )
) AS j
ORDER BY j.msg_id DESC
LIMIT $3
