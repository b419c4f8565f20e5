-- A new database.
CREATE DATABASE {database}
