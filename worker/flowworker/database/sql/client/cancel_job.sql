-- Cancels a job, in a function of ours: see install/flowworker.sql. $3 who asks, unless it is the role itself; $4 why.
SELECT * FROM flowworker.cancel_job($1, $2::bigint, coalesce($3::text, session_user::text), $4::text)
