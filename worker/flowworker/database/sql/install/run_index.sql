-- Lets the newest runs be found without a look at all of them. Runs start and end meanwhile.
CREATE INDEX CONCURRENTLY IF NOT EXISTS flowworker_runs_started ON pgflow.runs (started_at, run_id)
