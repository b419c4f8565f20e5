-- Whose version it is, too: pgflow's daily report counts what looks like a version of pgflow's own worker.
, 'flowworker-' || report.version
