-- Reads jobs and takes the lease on them, unless the claim arrives too late ($4). A claim that the network has held up
-- runs the moment an outage is over, when every lease has lapsed and nobody has prolonged one yet: it would take jobs
-- from workers that are alive. The database's clock comes with every answer: there is a row even where there is no job.
SELECT m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers, clock.now
FROM (SELECT clock_timestamp() AS now) AS clock
LEFT JOIN LATERAL pgmq.read(
    $1::text, $2::integer, CASE WHEN clock.now <= $4::timestamptz THEN $3::integer ELSE 0 END
) AS m ON true
ORDER BY m.msg_id
