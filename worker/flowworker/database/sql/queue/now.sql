-- The database's clock, for a worker's first claim.
SELECT clock_timestamp()
