-- Leases jobs that may start now, in the order in which they became due. Without `pgmq.read`, which knows no fence.
-- Reads nothing when it arrives too late ($4): a claim that the network has held up runs the moment an outage is over,
-- when every lease has lapsed and none has been prolonged yet. Reads nothing for a worker that was marked lost or has
-- ended: the fence is its own row. A job whose holder is not known to be gone waits $5 seconds past the end of its lease,
-- in which a holder that had no database for a while can prolong it; with NULL it is not taken at all. What this worker
-- still has ($6) is not taken again.
-- Each lease names its holder in the message's headers, and counts a loss where the former holder was marked lost after
-- its handler had begun. Headers that are no object belong to others and stay as they are.
-- To plan it takes longer than to run it, and what concerns holders (`holder`, `may_take`, `losses`) makes PostgreSQL plan
-- it each time. Most claims from a long queue do without, and read only jobs that no worker holds.
-- The time and the worker's state come with every answer: there is a row even where there is no job.
WITH me AS MATERIALIZED (
    SELECT
        clock.now,
        (SELECT w.state FROM flowworker.workers AS w WHERE w.worker_id = $1::uuid) AS state,
        jsonb_build_object('holder', $1::uuid, 'claimed_at', (extract(epoch FROM clock.now) * 1000000)::bigint) AS mark
    FROM clock_timestamp() AS clock(now)
),
claimed AS (
    UPDATE {queue_table} AS q
    SET vt = me.now + make_interval(secs => $2::double precision),
        read_ct = q.read_ct + 1{last_read_at},
        headers = CASE
            WHEN q.headers IS NULL THEN jsonb_build_object('flowworker', me.mark)
            WHEN jsonb_typeof(q.headers) NOT IN ('object', 'null') THEN q.headers
            ELSE
                CASE jsonb_typeof(q.headers) WHEN 'object' THEN q.headers ELSE '{}' END
                || jsonb_build_object('flowworker', head.ours || me.mark || CASE {losses}
                    WHEN 0 THEN '{}'
                    ELSE jsonb_build_object('losses', {losses})
                END)
        END
    FROM me CROSS JOIN LATERAL (
        SELECT q.msg_id, q.headers, {ours} AS ours{evidence}
        FROM {queue_table} AS q {holder}
        WHERE me.now <= $4::timestamptz
            AND me.state NOT IN ('lost', 'stopped')
            AND q.vt <= me.now
            AND q.msg_id <> ALL($6::bigint[])
            AND {may_take}
        ORDER BY q.vt
        LIMIT $3::integer
        FOR UPDATE OF q SKIP LOCKED
    ) AS head
    WHERE q.msg_id = head.msg_id
    RETURNING
        q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message, head.headers,
        {failures} AS failures, {losses} AS losses
)
SELECT
    me.now,
    me.state,
    claimed.msg_id,
    claimed.read_ct,
    extract(epoch FROM claimed.enqueued_at)::double precision AS enqueued_at,
    extract(epoch FROM claimed.vt)::double precision AS vt,
    claimed.message,
    claimed.headers,
    claimed.failures,
    claimed.losses
FROM me LEFT JOIN claimed ON true
ORDER BY claimed.msg_id
