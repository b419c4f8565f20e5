-- Shows that a connection that only listens still works.
SELECT 1
