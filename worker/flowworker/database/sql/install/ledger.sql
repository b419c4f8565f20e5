-- What earlier calls of `flowworker db install` have applied.
SELECT component, name, checksum, installed_at FROM flowworker.ledger ORDER BY installed_at, component, name
