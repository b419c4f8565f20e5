-- One queue's part of extend_all.sql. A locked row is being finished: it is ours and left alone.
kept_{place} AS (
    SELECT held.number
    FROM held
    JOIN {queue_table} AS q
        ON q.msg_id = held.msg_id AND q.read_ct = held.read_ct AND q.enqueued_at = held.enqueued_at
    WHERE held.place = {place}
),
free_{place} AS (
    SELECT q.msg_id
    FROM held
    JOIN {queue_table} AS q
        ON q.msg_id = held.msg_id AND q.read_ct = held.read_ct AND q.enqueued_at = held.enqueued_at
    WHERE held.place = {place}
    FOR UPDATE OF q SKIP LOCKED
),
extended_{place} AS (
    UPDATE {queue_table} AS q
    SET vt = clock_timestamp() + make_interval(secs => $4::double precision)
    FROM free_{place} AS free
    WHERE q.msg_id = free.msg_id
)
