-- A database for one benchmark.
CREATE DATABASE {database}
