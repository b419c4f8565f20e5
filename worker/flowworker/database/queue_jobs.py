"""Jobs of a plain pgmq queue: one statement each to claim, end, put back, prolong and look at them.

Ownership is a lease on the message's visibility. `read_ct` only rises, so it fences every write: once the message has
been read again, what we know about it is out of date.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import UUID

import asyncpg

from flowworker.database.capabilities import Capabilities
from flowworker.database.claims import Ticket, counter, deadline_of, ours_in, ticket_of
from flowworker.database.connection import Connection
from flowworker.database.identifiers import archive_table, insert_channel, queue_table
from flowworker.database.leases import JobFence
from flowworker.database.server_clock import ServerClock, moment
from flowworker.database.statements import fill, load

LEASE = 15
"""Seconds a job stays invisible after a claim or an extension: a dead worker's job is back within this time."""

HOLDER_PATIENCE = 60.0
"""Seconds past the end of its lease for which a job waits whose holder is not known to be gone. That holder takes it
again at once where its claim was not answered, or cannot prolong the lease while the row is locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadJob:
    """One message as a claim has read it."""

    msg_id: int
    read_count: int
    enqueued_at: datetime
    visible_at: datetime
    payload: bytes
    headers: bytes | None
    failures: int
    """Failed attempts so far, counted in the headers."""
    losses: int
    """How often a worker was marked lost after it had begun this job, counted in the headers."""

    @property
    def attempt(self) -> int:
        """The attempt this claim begins."""
        return self.failures + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The job's end: its message is archived, `ours` (a JSON object) is added to our headers."""

    fence: JobFence
    ours: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBack:
    """Another attempt: the job becomes visible after `delay` seconds, `ours` is added to our headers."""

    fence: JobFence
    ours: bytes
    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobNow:
    """A job's row as it stands."""

    read_count: int
    archived: bool
    headers: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobClaim:
    """What one claim has read."""

    ticket: Ticket
    jobs: Sequence[ReadJob]
    """In order of msg_id."""


async def claim(
    connection: Connection, features: Capabilities, queue_name: str, worker_id: UUID, limit: int, *,
    held: Collection[int] = (), clock: ServerClock, watched: bool, thorough: bool = True,
) -> JobClaim:  # fmt: skip
    """Lease at most `limit` jobs that may start now.

    Args:
        connection: to the database.
        features: of the database.
        queue_name: the queue.
        worker_id: a registered worker.
        limit: most jobs to read.
        held: msg_ids that are not taken, because this worker still has them.
        clock: the database's; set anew by every claim.
        watched: whether the database has been there long enough for every living holder to prolong its leases. After
            an outage all have lapsed at once, and one who claims before that takes jobs that still run.
        thorough: whether to look at jobs that a worker has held; without it the claim costs about half.

    Raises:
        DatabaseUnavailableError: the claim came late, or the worker is not registered; it read nothing.
    """
    deadline = await deadline_of(connection, clock)
    rows = await connection.fetch(
        claim_statement(queue_name, last_read_at=features.last_read_at, begun_at=features.begun_at, thorough=thorough),
        worker_id,
        float(LEASE),
        limit,
        deadline,
        HOLDER_PATIENCE if watched else None,
        list(held),
    )
    ticket = ticket_of(rows[0], deadline=deadline, clock=clock, name=queue_name)
    return JobClaim(ticket=ticket, jobs=[_read_job(row) for row in rows if row["msg_id"] is not None])


@cache
def claim_statement(queue_name: str, *, last_read_at: bool, begun_at: bool, thorough: bool) -> str:
    """The text of a claim, for a database whose messages and workers have these columns or not."""
    begun = fill("headers/begun", ours="head.ours") if begun_at else "true"
    losses = counter("losses", ours="head.ours")
    evidence = f", holder.state, {'holder.begun_at' if begun_at else 'NULL::timestamptz AS begun_at'}"
    return fill(
        "queue/claim",
        queue_table=queue_table(queue_name),
        last_read_at=", last_read_at = me.now" if last_read_at else "",
        ours=ours_in("q.headers"),
        failures=counter("failures", ours="head.ours"),
        losses=fill("headers/losses", losses=losses, begun=begun) if thorough else losses,
        evidence=evidence if thorough else "",
        holder=load("queue/claim_holder") if thorough else "",
        may_take=load("queue/claim_held" if thorough else "queue/claim_free"),
    )


def _read_job(row: asyncpg.Record) -> ReadJob:
    return ReadJob(
        msg_id=row["msg_id"],
        read_count=row["read_ct"],
        enqueued_at=moment(row["enqueued_at"]),
        visible_at=moment(row["vt"]),
        payload=b"null" if row["message"] is None else row["message"],
        headers=row["headers"],
        failures=row["failures"],
        losses=row["losses"],
    )


async def end(
    connection: Connection,
    queue_name: str,
    endings: Sequence[Ending],
    *,
    has_last_read_at: bool,
    skip_locked: bool = False,
) -> set[int]:
    """Move ended jobs to the archive; returns the msg_ids that passed the fence and, if so wanted, were not locked."""
    columns = ["msg_id", "read_ct", "enqueued_at", "vt", "message"]
    if has_last_read_at:
        columns.append("last_read_at")
    statement = fill(
        "queue/archive",
        queue_table=queue_table(queue_name),
        archive_table=archive_table(queue_name),
        columns=", ".join(f"q.{column}" for column in columns),
        plain_columns=", ".join(columns),
        unless_locked=_unless_locked(queue_name, skip_locked=skip_locked),
    )
    rows = await connection.fetch(
        statement,
        [ending.fence.msg_id for ending in endings],
        [ending.fence.read_count for ending in endings],
        [ending.fence.enqueued_at for ending in endings],
        [ending.ours for ending in endings],
    )
    return {row["msg_id"] for row in rows}


async def put_back(
    connection: Connection, queue_name: str, jobs: Sequence[PutBack], *, skip_locked: bool = False
) -> set[int]:
    """Put jobs back into the queue; returns the msg_ids that passed the fence and, if so wanted, were not locked."""
    unless_locked = _unless_locked(queue_name, skip_locked=skip_locked)
    rows = await connection.fetch(
        fill("queue/put_back", queue_table=queue_table(queue_name), unless_locked=unless_locked),
        [job.fence.msg_id for job in jobs],
        [job.fence.read_count for job in jobs],
        [job.fence.enqueued_at for job in jobs],
        [job.ours for job in jobs],
        [job.delay for job in jobs],
        insert_channel(queue_name),
    )
    return {row["msg_id"] for row in rows}


def _unless_locked(queue_name: str, *, skip_locked: bool) -> str:
    return fill("queue/unless_locked", queue_table=queue_table(queue_name)) if skip_locked else ""


async def look(connection: Connection, queue_name: str, fences: Sequence[JobFence]) -> dict[int, JobNow]:
    """The rows of jobs as they stand, in the queue or in its archive."""
    statement = fill("queue/look", queue_table=queue_table(queue_name), archive_table=archive_table(queue_name))
    rows = await connection.fetch(
        statement, [fence.msg_id for fence in fences], [fence.enqueued_at for fence in fences]
    )
    return {
        row["msg_id"]: JobNow(read_count=row["read_ct"], archived=row["archived"], headers=row["headers"])
        for row in rows
    }


async def extend_all(connection: Connection, jobs: Sequence[tuple[str, JobFence]]) -> list[int]:
    """Prolong leases in any number of queues, given as (queue's name, fence), in one statement.

    Returns:
        The positions of those whose fence was lost.
    """
    queues = sorted({queue_name for queue_name, _ in jobs})
    places = {queue_name: place for place, queue_name in enumerate(queues)}
    rows = await connection.fetch(
        extend_statement(tuple(queues)),
        [places[queue_name] for queue_name, _ in jobs],
        [fence.msg_id for _, fence in jobs],
        [fence.read_count for _, fence in jobs],
        float(LEASE),
        [fence.enqueued_at for _, fence in jobs],
    )
    return [row["number"] - 1 for row in rows]


@cache
def extend_statement(queues: tuple[str, ...]) -> str:
    """The statement for a set of queues: its text is the same whenever the set is, so that the server plans it once."""
    parts = [
        fill("queue/extend_part", queue_table=queue_table(queue_name), place=str(place))
        for place, queue_name in enumerate(queues)
    ]
    kept = [fill("queue/extend_kept", place=str(place)) for place in range(len(queues))]
    return fill("queue/extend_all", parts=",\n".join(parts), kept=" UNION ALL ".join(kept))


async def exists(connection: Connection, queue_name: str) -> bool:
    """Whether pgmq has a queue of this name."""
    found: bool = await connection.fetchval(load("queue/exists"), queue_name)
    return found
