-- Removes a database, whoever is still connected.
DROP DATABASE IF EXISTS {database} WITH (FORCE)
