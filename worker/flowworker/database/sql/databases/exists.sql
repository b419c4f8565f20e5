-- Whether the server has a database of this name.
SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)
