-- Runs of one flow that are under way and will not go on by themselves, each with one task and the reason, the oldest
-- first. $1 flow, $2 seconds for which no worker has served it, $3 how many, $4 seconds from which on a worker is silent:
-- where all have died, none is left to mark them lost. A worker of other software serves it as well, where its heartbeat in
-- pgflow's own table is that fresh. What columns only newer cores have is read through to_jsonb. Of tasks in queues of
-- single steps, which only other software serves, neither messages nor workers are known here.
WITH served AS MATERIALIZED (
    SELECT
        EXISTS (
            SELECT FROM flowworker.workers AS w
            WHERE w.kind = 'flow' AND w.slug = $1::text AND (
                w.state NOT IN ('stopped', 'lost')
                AND w.reported_at > clock_timestamp() - make_interval(secs => greatest($2, $4::double precision))
                OR w.ended_at > clock_timestamp() - make_interval(secs => $2::double precision)
            )
        ) OR EXISTS (
            SELECT FROM pgflow.workers AS w
            WHERE lower(w.queue_name) = lower($1::text)
                AND w.last_heartbeat_at > clock_timestamp() - make_interval(secs => $2)
        ) AS now
)
SELECT r.run_id, r.flow_slug, r.started_at, found.step_slug, found.task_index, found.reason, found.since
FROM served
CROSS JOIN pgflow.runs AS r
CROSS JOIN LATERAL (
    SELECT open.*
    FROM (
        SELECT
            t.step_slug,
            t.task_index,
            coalesce(t.started_at, t.queued_at) AS since,
            CASE
                WHEN to_jsonb(t) ->> 'permanently_stalled_at' IS NOT NULL THEN 'stalled'
                WHEN to_jsonb(t) ->> 'queue_name' <> lower(r.flow_slug) THEN NULL
                WHEN t.status = 'queued' AND q.msg_id IS NULL THEN 'message gone'
                WHEN served.now THEN NULL
                WHEN t.status = 'queued' AND q.vt < clock_timestamp() - make_interval(secs => $2) THEN 'not served'
                WHEN t.status = 'started' AND t.started_at < clock_timestamp() - make_interval(secs => $2)
                    THEN 'worker gone'
            END AS reason
        FROM pgflow.step_tasks AS t
        LEFT JOIN {queue_table} AS q ON q.msg_id = t.message_id
        WHERE t.run_id = r.run_id AND t.status IN ('queued', 'started')
        UNION ALL
        SELECT NULL, NULL, r.started_at, 'nothing left'
        WHERE NOT EXISTS (
            SELECT FROM pgflow.step_tasks AS t WHERE t.run_id = r.run_id AND t.status IN ('queued', 'started')
        )
    ) AS open
    WHERE open.reason IS NOT NULL
    ORDER BY open.since
    LIMIT 1
) AS found
WHERE r.flow_slug = $1 AND r.status = 'started'
ORDER BY r.started_at, r.run_id
LIMIT $3::integer
