-- The database's name; its server processes carry it in their titles.
SELECT current_database() /* flowworker-bench */
