-- Every round begins with fresh statistics and without the dead rows of the one before.
VACUUM (ANALYZE)
