-- Drops a database and ends all connections to it.
DROP DATABASE IF EXISTS {database} WITH (FORCE)
