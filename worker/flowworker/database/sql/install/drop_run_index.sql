-- What an installation left that was interrupted: writes maintain it, and no statement may use it.
DROP INDEX CONCURRENTLY IF EXISTS pgflow.flowworker_runs_started
