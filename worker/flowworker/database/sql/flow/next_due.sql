-- Seconds until the earliest message that is invisible now becomes visible; one probe of the index on vt.
SELECT extract(epoch FROM min(vt) - clock_timestamp())::double precision FROM {queue_table} WHERE vt > clock_timestamp()
