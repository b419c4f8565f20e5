-- How long the session's next statements may take and may wait for one lock, in milliseconds as text.
SELECT set_config('statement_timeout', $1::text, false), set_config('lock_timeout', $2::text, false)
