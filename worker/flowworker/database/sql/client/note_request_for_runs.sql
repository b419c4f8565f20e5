-- Notes a request for many runs, or its end: see install/flowworker.sql. $3 who asks, unless it is the role itself.
SELECT flowworker.note_request_for_runs(
    $1::text, $2::text, coalesce($3::text, session_user::text), $4::text, $5::text, $6::text::jsonb
)
