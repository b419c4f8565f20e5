"""Cancelling runs and jobs, with who asked for it and why on record in flowworker.requests.

Each is one call of a function in the database: whatever kills the client or its session, everything is done or nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from flowworker.database.connection import AnyConnection
from flowworker.database.faults import ADMIN_ROLE_OPTION, CONFLICTS, translated
from flowworker.database.identifiers import queue_table
from flowworker.database.jobs_admin import about_queue
from flowworker.database.runs import unknown_run
from flowworker.database.statements import load
from flowworker.errors import DataError, UnknownJobError

LONGEST_ACTOR = 200
LONGEST_REASON = 1000
"""Characters."""

CANCELLED = "cancelled"

TRIES = 5
"""How often a call is made that each time meets a transaction which takes its locks in another order, as the functions
of pgflow's early cores do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who asks for something, and why."""

    actor: str | None = None
    """None for the name of the database role."""
    reason: str | None = None

    def __post_init__(self) -> None:
        """Refuse what the record cannot hold.

        Raises:
            DataError: a text is empty, too long, or holds a zero character or half of a character.
        """
        _check("actor", self.actor, LONGEST_ACTOR)
        _check("reason", self.reason, LONGEST_REASON)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelledRun:
    """A run that was cancelled."""

    run_id: UUID
    flow_slug: str
    actor: str
    """Who asked for it."""
    reason: str | None
    requested_at: datetime
    queued: int
    """Tasks that waited and do not start any more."""
    started: int
    """Tasks that workers had in hand: their handlers are cancelled, their results superseded."""
    is_new: bool
    """Whether this call did it; False where the run had been cancelled before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelledJob:
    """A job that was cancelled."""

    queue: str
    msg_id: int
    actor: str
    """Who asked for it."""
    reason: str | None
    requested_at: datetime
    was_running: bool
    """Whether a worker had it in hand: its handler is cancelled, its result superseded."""
    is_new: bool
    """Whether this call did it; False where the job had been cancelled before."""


async def cancel_run(connection: AnyConnection, run_id: UUID, request: Request) -> CancelledRun:
    """Cancel a run that is under way; a repeated call gives what the first one did.

    Raises:
        UnknownRunError: the database has no such run.
        DataError: the run has ended by itself. The attempt is on record.
    """
    with translated("cancel a run", role_option=ADMIN_ROLE_OPTION):
        row = await call_cancel_run(connection, run_id, request)
    if row is None:
        raise unknown_run(run_id)
    values = dict(row)
    if (outcome := values.pop("outcome")) != CANCELLED:
        raise DataError(f"run {run_id} is {outcome} already; only a run that is under way can be cancelled")
    return CancelledRun(run_id=run_id, **values)


async def cancel_job(connection: AnyConnection, queue: str, msg_id: int, request: Request) -> CancelledJob:
    """Cancel a job that waits or runs; a repeated call gives what the first one did.

    Raises:
        UnknownQueueError: the database has no such queue.
        UnknownJobError: the queue has and had no such job.
        DataError: the job has ended by itself. The attempt is on record.
    """
    queue_table(queue)  # refuses what can be no queue
    with about_queue(queue, f"cancel a job of queue {queue!r}", role_option=ADMIN_ROLE_OPTION):
        row = await _call(connection, "client/cancel_job", queue, msg_id, request.actor, request.reason)
    if row is None:
        raise UnknownJobError(f"queue {queue!r} has no job {msg_id}; list them with `flowworker jobs list {queue}`")
    values = dict(row)
    if (outcome := values.pop("outcome")) != CANCELLED:
        raise DataError(
            f"job {msg_id} of queue {queue!r} is {outcome} already; only one that waits or runs can be cancelled"
        )
    return CancelledJob(queue=queue, msg_id=msg_id, **values)


async def call_cancel_run(
    connection: AnyConnection, run_id: UUID, request: Request, *, part_of: int | None = None
) -> asyncpg.Record | None:
    """What came of one cancellation, with the errors of the database; None where there is no such run.

    Args:
        connection: to the database.
        run_id: of the run.
        request: who asks, and why.
        part_of: the request for many runs that it belongs to.
    """
    return await _call(connection, "client/cancel_run", run_id, request.actor, request.reason, part_of)


async def _call(connection: AnyConnection, statement: str, *arguments: object) -> asyncpg.Record | None:
    """Each statement in it sees what others have committed meanwhile, whatever the role's default is."""

    async def once() -> asyncpg.Record | None:
        async with connection.transaction(isolation="read_committed"):
            return await connection.fetchrow(load(statement), *arguments)

    import stamina  # what only reads runs and jobs does without

    patience = stamina.AsyncRetryingCaller(attempts=TRIES, wait_initial=0.05, wait_max=0.5)
    return await patience.on(CONFLICTS)(once)


def _check(name: str, text: str | None, longest: int) -> None:
    if text is None:
        return
    if not text.strip():
        raise DataError(f"the {name} is empty")
    if len(text) > longest:
        raise DataError(f"the {name} has {len(text)} characters; at most {longest} are kept")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"the {name} holds what PostgreSQL cannot store as text")
