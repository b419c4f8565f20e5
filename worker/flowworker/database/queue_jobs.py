"""Jobs of a plain pgmq queue: one statement each to claim, end, put back, prolong and look at them.

Ownership is a lease on the message's visibility. `read_ct` only rises, so it fences every write: once anybody has read
the message again, what we know about it is out of date.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from flowworker.database.connection import Connection
from flowworker.database.headers import count_of, our_headers
from flowworker.database.identifiers import archive_table, insert_channel, queue_table
from flowworker.database.server_clock import ServerClock
from flowworker.database.statements import fill, load
from flowworker.errors import DatabaseUnavailableError

LEASE = 15
"""Seconds a job stays invisible after a claim or an extension: a dead worker's job is back within this time."""

CLAIM_PATIENCE = timedelta(seconds=5)
"""How long a claim may be on its way. A lease is prolonged long before it ends: an outage short enough for the claim
to be in time ends none."""


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
    releases: int
    """How often it was given back unfinished, counted in the headers."""

    @property
    def attempt(self) -> int:
        """The attempt this claim begins."""
        return self.failures + 1

    @property
    def losses(self) -> int:
        """Reads that neither failed nor were given back: their workers died."""
        return max(0, self.read_count - 1 - self.failures - self.releases)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFence:
    """Names one claim of one job."""

    msg_id: int
    read_count: int


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


async def claim(connection: Connection, queue_name: str, limit: int, *, clock: ServerClock) -> list[ReadJob]:
    """Read at most `limit` visible jobs and lease them; in order of msg_id.

    Args:
        connection: to the database.
        queue_name: the queue.
        limit: most jobs to read.
        clock: the database's; set anew by every claim.

    Raises:
        DatabaseUnavailableError: the claim was held up for longer than `CLAIM_PATIENCE`, and read nothing.
    """
    asked_at = clock.now() or await connection.fetchval(load("queue/now"))
    rows = await connection.fetch(load("queue/claim"), queue_name, LEASE, limit, asked_at + CLAIM_PATIENCE)
    now: datetime = rows[0]["now"]
    clock.set(now)
    if now > asked_at + CLAIM_PATIENCE:
        raise DatabaseUnavailableError(
            f"a claim of queue {queue_name!r} reached the database {(now - asked_at).total_seconds():.1f} s late "
            "and read nothing; the worker claims again"
        )
    return _jobs(row for row in rows if row["msg_id"] is not None)


def _jobs(rows: Iterable[asyncpg.Record]) -> list[ReadJob]:
    jobs: list[ReadJob] = []
    for row in rows:
        ours = our_headers(row["headers"])
        jobs.append(
            ReadJob(
                msg_id=row["msg_id"],
                read_count=row["read_ct"],
                enqueued_at=row["enqueued_at"],
                visible_at=row["vt"],
                payload=b"null" if row["message"] is None else row["message"],
                headers=row["headers"],
                failures=count_of(ours, "failures"),
                releases=count_of(ours, "releases"),
            )
        )
    return jobs


async def end(
    connection: Connection, queue_name: str, endings: Sequence[Ending], *, has_last_read_at: bool
) -> set[int]:
    """Move ended jobs to the archive; returns the msg_ids that passed the fence."""
    columns = ["msg_id", "read_ct", "enqueued_at", "vt", "message"]
    if has_last_read_at:
        columns.append("last_read_at")
    statement = fill(
        "queue/archive",
        queue_table=queue_table(queue_name),
        archive_table=archive_table(queue_name),
        columns=", ".join(f"q.{column}" for column in columns),
        plain_columns=", ".join(columns),
    )
    rows = await connection.fetch(
        statement,
        [ending.fence.msg_id for ending in endings],
        [ending.fence.read_count for ending in endings],
        [ending.ours for ending in endings],
    )
    return {row["msg_id"] for row in rows}


async def put_back(connection: Connection, queue_name: str, jobs: Sequence[PutBack]) -> set[int]:
    """Put jobs back into the queue; returns the msg_ids that passed the fence."""
    rows = await connection.fetch(
        fill("queue/put_back", queue_table=queue_table(queue_name)),
        [job.fence.msg_id for job in jobs],
        [job.fence.read_count for job in jobs],
        [job.ours for job in jobs],
        [job.delay for job in jobs],
        insert_channel(queue_name),
    )
    return {row["msg_id"] for row in rows}


async def look(connection: Connection, queue_name: str, msg_ids: Collection[int]) -> dict[int, JobNow]:
    """The rows of jobs as they stand, in the queue or in its archive."""
    statement = fill("queue/look", queue_table=queue_table(queue_name), archive_table=archive_table(queue_name))
    rows = await connection.fetch(statement, list(msg_ids))
    return {
        row["msg_id"]: JobNow(read_count=row["read_ct"], archived=row["archived"], headers=row["headers"])
        for row in rows
    }


async def extend(connection: Connection, queue_name: str, fences: Sequence[JobFence]) -> list[int]:
    """Prolong leases; returns the msg_ids whose fence was lost."""
    rows = await connection.fetch(
        fill("queue/extend", queue_table=queue_table(queue_name)),
        [fence.msg_id for fence in fences],
        [fence.read_count for fence in fences],
        float(LEASE),
    )
    return [row["msg_id"] for row in rows]


async def exists(connection: Connection, queue_name: str) -> bool:
    """Whether pgmq has a queue of this name."""
    found: bool = await connection.fetchval(load("queue/exists"), queue_name)
    return found
