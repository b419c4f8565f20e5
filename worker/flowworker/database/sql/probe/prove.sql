-- Holds a lock for as long as this session lasts, or until it is let go: a session that sees it is one of the same
-- database. $1 a random number.
SELECT pg_catalog.pg_try_advisory_lock($1::bigint)
