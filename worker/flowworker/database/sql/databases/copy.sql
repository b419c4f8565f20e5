-- A new database with the contents of another one, to which no session may be connected meanwhile.
CREATE DATABASE {database} TEMPLATE {template}
