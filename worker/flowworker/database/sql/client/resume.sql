-- Ends drains before they lapse.
DELETE FROM flowworker.drains WHERE target = ANY($1::text[])
