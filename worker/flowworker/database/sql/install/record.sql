-- Note an applied file, in the transaction that applied it. Our own files may be applied again when they change.
INSERT INTO flowworker.ledger (component, name, checksum) VALUES ($1, $2, $3)
ON CONFLICT (component, name) DO UPDATE SET checksum = excluded.checksum, installed_at = clock_timestamp()
