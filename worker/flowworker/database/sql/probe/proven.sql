-- Whether a session of this database holds the lock of `prove`. $1 the number.
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_locks AS l
    WHERE
        l.locktype = 'advisory'
        AND l.objsubid = 1
        AND l.granted
        AND (l.classid::bigint << 32) | l.objid::bigint = $1::bigint
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
)
