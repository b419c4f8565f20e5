-- What is asked of a run `r`. What is not asked for is NULL; statements with this are planned with the values, so that
-- only what is asked for is looked at. Errors are put together from steps and tasks, so they are looked at last, and only
-- of failed runs. $1 flow, $2 status, $3 and $4 when it started, $5 and $6 ids, $7 part of the error, $8 parts of the input.
($1::text IS NULL OR r.flow_slug = $1)
AND ($2::text IS NULL OR r.status = $2)
AND ($3::timestamptz IS NULL OR r.started_at >= $3)
AND ($4::timestamptz IS NULL OR r.started_at < $4)
AND ($5::uuid IS NULL OR r.run_id BETWEEN $5 AND $6::uuid)
AND ($8::text IS NULL OR NOT EXISTS (
    SELECT FROM jsonb_to_recordset($8::jsonb) AS wanted(path text[], value text)
    WHERE r.input #>> wanted.path IS DISTINCT FROM wanted.value
))
AND ($7::text IS NULL OR r.status = 'failed' AND strpos(lower({error}), lower($7)) > 0)
