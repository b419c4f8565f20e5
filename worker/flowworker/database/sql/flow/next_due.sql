-- Seconds until the earliest message that is invisible now becomes visible; one probe of the index on vt, which only a
-- time that stays the same throughout the statement allows: else every visible message would be looked at first.
SELECT extract(epoch FROM min(vt) - clock_timestamp())::double precision FROM {queue_table} WHERE vt > statement_timestamp()
