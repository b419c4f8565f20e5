-- One compilation of a flow at a time. The keys are the ones pgflow's own compilation takes: the slug up to core 0.16,
-- its lower case from 0.17 on. $1: the slug.
SELECT pg_advisory_xact_lock(1, hashtext($1)), pg_advisory_xact_lock(1, hashtext(lower($1)))
