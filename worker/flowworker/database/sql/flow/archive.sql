-- Archives messages whose tasks can never start again.
SELECT count(*)::integer FROM pgmq.archive($1::text, $2::bigint[])
