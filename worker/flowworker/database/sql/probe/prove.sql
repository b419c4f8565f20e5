-- Holds a lock that no other session holds, for as long as this one lasts or until it is let go: whoever sees it is
-- connected to the same database. $1 a number that nobody can guess.
SELECT pg_catalog.pg_try_advisory_lock($1::bigint)
