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

CREATE INDEX IF NOT EXISTS workers_alive ON flowworker.workers (kind, slug) WHERE state NOT IN ('stopped', 'lost');

CREATE TABLE IF NOT EXISTS flowworker.drains (
    target     text PRIMARY KEY,
    until      timestamptz NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE flowworker.drains IS 'Drain requests: target is a pod uid or a worker id; in force until the lease lapses.';

CREATE TABLE IF NOT EXISTS flowworker.ledger (
    component    text NOT NULL,
    name         text NOT NULL,
    checksum     text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (component, name)
);
COMMENT ON TABLE flowworker.ledger IS 'What `flowworker db install` has applied.';
