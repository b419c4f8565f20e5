-- Lets go of the lock of `prove`; whether it was held until now. $1 the number.
SELECT pg_catalog.pg_advisory_unlock($1::bigint)
