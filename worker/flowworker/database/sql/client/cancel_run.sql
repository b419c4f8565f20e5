-- Cancels a run, in a function of ours: see install/flowworker.sql. $2 who asks, unless it is the role itself; $3 why; $4
-- the request for many runs that it is part of.
SELECT * FROM flowworker.cancel_run($1, coalesce($2::text, session_user::text), $3::text, $4::bigint)
