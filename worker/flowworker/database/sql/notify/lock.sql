-- One set-up of a queue at a time; other users of advisory locks have other first keys. $1: the queue.
SELECT pg_advisory_xact_lock(2, hashtext($1))
