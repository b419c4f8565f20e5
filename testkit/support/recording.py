"""The database's testimony: triggers that record every change of a task or job, with the time of its commit.

The server needs `track_commit_timestamp = on`. A change of a task is written with the execution that its output or
error names, so that the checker knows whose outcome was accepted.
"""

import re
import time
from collections.abc import Mapping
from uuid import UUID

import orjson
from testkit.support.history import COMPLETED, FAILED, QUEUED, Key, Life, Transition

from flowworker.database.connection import Connection
from flowworker.database.identifiers import archive_table, queue_table

SERVER_SETTINGS = {"track_commit_timestamp": "on"}

EXECUTION = re.compile(r"execution \"?([0-9a-f]{32})")
"""How handlers name their execution in an error. Only an error that is new with a change counts for it."""

TABLE = """
    CREATE SCHEMA chaos;
    CREATE TABLE chaos.transitions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        owner text NOT NULL, step text NOT NULL, index bigint NOT NULL,
        status text NOT NULL, attempt integer NOT NULL, worker_id uuid, output jsonb, error text,
        at timestamptz NOT NULL DEFAULT clock_timestamp(), role text NOT NULL DEFAULT session_user
    );
    CREATE TABLE chaos.lives (
        worker_id uuid NOT NULL, serves text NOT NULL, process text, state text NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE FUNCTION chaos.record_life() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO chaos.lives VALUES (NEW.worker_id, NEW.slug, NEW.pod_name, NEW.state);
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_born AFTER INSERT ON flowworker.workers FOR EACH ROW EXECUTE FUNCTION chaos.record_life();
    CREATE TRIGGER chaos_lost AFTER UPDATE ON flowworker.workers FOR EACH ROW
        WHEN (NEW.state = 'lost' AND OLD.state <> 'lost') EXECUTE FUNCTION chaos.record_life();
    CREATE FUNCTION chaos.record_task() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF TG_OP = 'INSERT' OR (NEW.status, NEW.attempts_count, NEW.output, NEW.started_at, NEW.last_worker_id)
            IS DISTINCT FROM (OLD.status, OLD.attempts_count, OLD.output, OLD.started_at, OLD.last_worker_id)
        THEN
            INSERT INTO chaos.transitions (owner, step, index, status, attempt, worker_id, output, error)
            VALUES (
                NEW.run_id, NEW.step_slug, NEW.task_index, NEW.status, NEW.attempts_count,
                CASE WHEN TG_OP = 'UPDATE' THEN coalesce(NEW.last_worker_id, OLD.last_worker_id) END,
                NEW.output,
                CASE WHEN TG_OP = 'UPDATE' AND NEW.error_message IS DISTINCT FROM OLD.error_message
                    THEN NEW.error_message END
            );
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_record AFTER INSERT OR UPDATE ON pgflow.step_tasks
        FOR EACH ROW EXECUTE FUNCTION chaos.record_task();
    CREATE FUNCTION chaos.record_job() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE
        queue text := substr(TG_TABLE_NAME, 3);
        ours jsonb := NEW.headers -> 'flowworker';
        ended boolean := TG_TABLE_NAME LIKE 'a\\_%';
    BEGIN
        INSERT INTO chaos.transitions (owner, step, index, worker_id, status, attempt, output, error)
        VALUES (
            queue, queue, NEW.msg_id, CASE WHEN NOT ended THEN (ours ->> 'holder')::uuid END,
            CASE
                WHEN ended THEN CASE ours ->> 'status' WHEN 'done' THEN 'completed' ELSE 'failed' END
                WHEN TG_OP = 'INSERT' THEN 'queued'
                ELSE 'started'
            END,
            NEW.read_ct, CASE WHEN ended THEN ours -> 'result' END, CASE WHEN ended THEN ours ->> 'error' END
        );
        RETURN NULL;
    END $$;
"""

CANCELS = """
    CREATE TABLE chaos.cancelling (role text NOT NULL, application text NOT NULL, seed integer NOT NULL);
    CREATE SEQUENCE chaos.chances;
    CREATE SEQUENCE chaos.cancelled MINVALUE 0;
    CREATE FUNCTION chaos.cancel_by_chance() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF EXISTS (
            SELECT FROM chaos.cancelling
            WHERE role = session_user
                AND application = current_setting('application_name')
                AND hashint8(nextval('chaos.chances') + seed) & 1 = 1
        ) THEN
            PERFORM nextval('chaos.cancelled'), pg_cancel_backend(pg_backend_pid()), pg_sleep(0.01);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_cancel AFTER INSERT OR UPDATE ON pgflow.step_tasks
        FOR EACH STATEMENT EXECUTE FUNCTION chaos.cancel_by_chance();
    CREATE TRIGGER chaos_cancel AFTER INSERT OR UPDATE ON flowworker.workers
        FOR EACH STATEMENT EXECUTE FUNCTION chaos.cancel_by_chance();
"""
"""Statements of the sessions in `cancelling` are cancelled in their midst, half of them by chance."""

CANCELS_OF_QUEUE = """
    CREATE TRIGGER chaos_cancel AFTER UPDATE OR DELETE ON {queue}
        FOR EACH STATEMENT EXECUTE FUNCTION chaos.cancel_by_chance();
"""

JOBS = """
    CREATE TRIGGER chaos_sent AFTER INSERT ON {queue} FOR EACH ROW EXECUTE FUNCTION chaos.record_job();
    CREATE TRIGGER chaos_read AFTER UPDATE ON {queue} FOR EACH ROW WHEN (NEW.read_ct > OLD.read_ct)
        EXECUTE FUNCTION chaos.record_job();
    CREATE TRIGGER chaos_ended AFTER INSERT ON {archive} FOR EACH ROW EXECUTE FUNCTION chaos.record_job();
"""

READ = """
    SELECT *, extract(epoch FROM coalesce(pg_xact_commit_timestamp(xmin), at)) * 1000000000 AS committed
    FROM chaos.{table}
    ORDER BY {order}
"""

LOST = "lost"
READINGS = 20
"""Of both clocks; it is unlikely that the process has to wait in each."""


async def install(connection: Connection) -> None:
    """Record every change of pgflow's tasks from now on."""
    await connection.execute(TABLE)
    await connection.execute(CANCELS)


async def record_queue(connection: Connection, queue: str) -> None:
    """Record every change of a queue's jobs from now on."""
    await connection.execute(JOBS.format(queue=queue_table(queue), archive=archive_table(queue)))
    await cancel_in_queue(connection, queue)


async def cancel_in_queue(connection: Connection, queue: str) -> None:
    """Let statements that change this queue's messages be cancelled, too."""
    await connection.execute(CANCELS_OF_QUEUE.format(queue=queue_table(queue)))


async def cancel(connection: Connection, role: str, application: str, seed: int) -> None:
    """From now on cancel statements of one role and application name, half of them by chance."""
    await connection.execute("INSERT INTO chaos.cancelling VALUES ($1, $2, $3)", role, application, seed)


async def cancel_no_more(connection: Connection) -> int:
    """Let every statement end by itself again; returns how many were cancelled so far."""
    await connection.execute("DELETE FROM chaos.cancelling")
    cancelled: int = await connection.fetchval("SELECT nextval('chaos.cancelled')")
    return cancelled


async def read(connection: Connection, processes: Mapping[UUID, str], roles: Mapping[str, str]) -> list[Transition]:
    """Every change of a task or job.

    Args:
        connection: the owner's.
        processes: names of worker processes by worker id.
        roles: names of worker processes by the role that only they use.
    """
    rows = await connection.fetch(READ.format(table="transitions", order="id"))
    epoch = _epoch()
    return [
        Transition(
            key=Key(owner=row["owner"], step=row["step"], index=row["index"]),
            status=row["status"],
            attempt=row["attempt"],
            at=int(row["committed"]) - epoch,
            worker=processes.get(row["worker_id"], roles.get(row["role"])),
            incarnation=None if row["worker_id"] is None else str(row["worker_id"]),
            execution=_execution(row["status"], row["output"], row["error"]),
            output=row["output"],
        )
        for row in rows
    ]


async def read_lives(connection: Connection) -> list[Life]:
    """Every incarnation of a worker, oldest first."""
    rows = await connection.fetch(READ.format(table="lives", order="at"))
    epoch = _epoch()
    lost = {row["worker_id"]: int(row["committed"]) - epoch for row in rows if row["state"] == LOST}
    return [
        Life(
            incarnation=str(row["worker_id"]),
            worker=row["process"] or "",
            serves=row["serves"],
            born=int(row["committed"]) - epoch,
            lost=lost.get(row["worker_id"]),
        )
        for row in rows
        if row["state"] != LOST
    ]


def _epoch() -> int:
    """The time of day at the monotonic clock's zero, in nanoseconds.

    The clocks are read one after the other, and a process that is not on a processor between the two readings makes the
    difference too small, by as long as it waited.
    """
    return max(time.time_ns() - time.monotonic_ns() for _ in range(READINGS))


def _execution(status: str, output: bytes | None, error: str | None) -> str | None:
    if status == COMPLETED and output is not None:
        found = orjson.loads(output)
        return found.get("execution") if isinstance(found, dict) else None  # pyright: ignore
    if status in {QUEUED, FAILED} and error is not None and (named := EXECUTION.search(error)) is not None:
        return named[1]
    return None
