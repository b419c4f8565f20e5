-- Our own schema: what workers say about themselves, which of them are asked to drain, and what was installed.
CREATE SCHEMA IF NOT EXISTS flowworker;

CREATE TABLE IF NOT EXISTS flowworker.workers (
    worker_id   uuid PRIMARY KEY,
    boot_id     uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('flow', 'queue')),
    slug        text NOT NULL,
    worker_name text NOT NULL,
    namespace   text,
    flowworker  text,
    pod_name    text,
    pod_uid     text,
    revision    text,
    version     text NOT NULL,
    state       text NOT NULL CHECK (state IN ('starting', 'running', 'draining', 'drained', 'stopping', 'stopped', 'lost')),
    in_flight   integer NOT NULL DEFAULT 0,
    slots       integer NOT NULL,
    completed   bigint NOT NULL DEFAULT 0,
    failed      bigint NOT NULL DEFAULT 0,
    last_error  text CHECK (length(last_error) <= 512),
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE flowworker.workers IS 'One row per incarnation of a worker, written by its heartbeat; pruned a day after its end.';
COMMENT ON COLUMN flowworker.workers.boot_id IS 'Shared by all workers of one process; tells a restarted container from its predecessor.';

ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS longest_timeout integer;
COMMENT ON COLUMN flowworker.workers.longest_timeout IS 'Seconds that a task may take, where no table of pgflow tells it.';

-- What a worker says about its health, beyond that it lives.
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS begun_at timestamptz;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS unwritten_for double precision;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS unclaimed_for double precision;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS doubts integer;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS network_namespace text;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS ended_at timestamptz;
ALTER TABLE flowworker.workers ADD COLUMN IF NOT EXISTS option_changes jsonb;
COMMENT ON COLUMN flowworker.workers.begun_at IS 'All claims up to this time of the database have been answered and their handlers launched.';
COMMENT ON COLUMN flowworker.workers.unwritten_for IS 'Age in seconds of the oldest result that is not written yet; NULL when all are.';
COMMENT ON COLUMN flowworker.workers.unclaimed_for IS 'Seconds for which it has wanted to claim and no claim was answered; NULL while it wants none.';
COMMENT ON COLUMN flowworker.workers.doubts IS 'Claims and writes whose outcome is not known.';
COMMENT ON COLUMN flowworker.workers.network_namespace IS 'Kernel and network namespace in which the process has bound the socket that shows that it runs; NULL when it has not.';
COMMENT ON COLUMN flowworker.workers.ended_at IS 'When the worker stopped or was marked lost; NULL while it lives.';
COMMENT ON COLUMN flowworker.workers.option_changes IS 'Options of the flow that the database had otherwise than the code when the worker started; NULL for a queue.';

-- Workers, peers, the operator and people end workers, each by changing the state: this notes when.
CREATE OR REPLACE FUNCTION flowworker.note_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ended_at := CASE WHEN NEW.state IN ('stopped', 'lost') THEN clock_timestamp() END;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER note_end BEFORE UPDATE OF state ON flowworker.workers
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION flowworker.note_end();

-- Columns that a heartbeat never changes, so that it stays cheap; and room on each page for its next version.
ALTER TABLE flowworker.workers SET (fillfactor = 50);
DROP INDEX IF EXISTS flowworker.workers_alive;
CREATE INDEX IF NOT EXISTS workers_living ON flowworker.workers (kind, slug, worker_id) WHERE state NOT IN ('stopped', 'lost');
CREATE INDEX IF NOT EXISTS workers_ended ON flowworker.workers (kind, slug, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS workers_served ON flowworker.workers (kind, slug, started_at);
CREATE INDEX IF NOT EXISTS workers_owned ON flowworker.workers (namespace, flowworker, started_at);

CREATE TABLE IF NOT EXISTS flowworker.drains (
    target     text PRIMARY KEY,
    until      timestamptz NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE flowworker.drains IS 'Drain requests: target is a pod uid or a worker id; in force until the lease lapses.';

-- Several may ask for the drain of one worker, and each takes back only its own request.
ALTER TABLE flowworker.drains ADD COLUMN IF NOT EXISTS created_by text NOT NULL DEFAULT 'user';
ALTER TABLE flowworker.drains DROP CONSTRAINT IF EXISTS drains_pkey;
ALTER TABLE flowworker.drains ADD PRIMARY KEY (target, created_by);
CREATE INDEX IF NOT EXISTS drains_asked ON flowworker.drains (created_by);
COMMENT ON COLUMN flowworker.drains.created_by IS '`user`, or `operator/` and the namespace and name of a FlowWorker.';

CREATE TABLE IF NOT EXISTS flowworker.ledger (
    component    text NOT NULL,
    name         text NOT NULL,
    checksum     text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (component, name)
);
COMMENT ON TABLE flowworker.ledger IS 'What `flowworker db install` has applied.';
