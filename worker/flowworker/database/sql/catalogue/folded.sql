-- A name in small letters, by the locale of the database. $1: the name.
SELECT lower($1::text)
