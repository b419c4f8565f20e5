"""What is on record beside a claim: that its handlers have begun, what could not be claimed, and losses forgiven."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from flowworker.database.capabilities import Capabilities
from flowworker.database.claims import counter, ours_in
from flowworker.database.connection import Connection
from flowworker.database.identifiers import queue_table
from flowworker.database.records import ClaimedTask
from flowworker.database.statements import fill, load

logger = logging.getLogger(__name__)

PARKED_FOR = 60.0
"""Seconds for which a message is put off that could not be claimed; four times as long each time it happens again."""

LONGEST_PARKED = 3600.0


def parked_for(first: float, parks: int) -> float:
    """Seconds for which a message is put off that was put off so many times before; park.sql has the same rule."""
    return min(first * 4.0 ** min(parks, 10), LONGEST_PARKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFence:
    """Names one claim of one message."""

    msg_id: int
    read_count: int
    enqueued_at: datetime
    """A queue that was dropped and created anew gives the same ids again."""

    @classmethod
    def of(cls, task: ClaimedTask) -> Self:
        """The claim that brought this task."""
        return cls(msg_id=task.msg_id, read_count=task.read_count, enqueued_at=task.enqueued_at)


async def begun(connection: Connection, features: Capabilities, worker_id: UUID, claimed_at: datetime) -> None:
    """Record that the handlers of everything this worker claimed until then have begun."""
    if features.begun_at:
        await connection.execute(load("workers/begun"), worker_id, claimed_at)


async def prepare_begun(connection: Connection, features: Capabilities) -> None:
    """Let the server know the statement, so that the first record is sent before the first handler runs."""
    if features.begun_at:
        await connection.execute(load("workers/begun"), UUID(int=0), None)


async def park(
    connection: Connection, queue_name: str, *, order: str, reason: str, without: Collection[int] = ()
) -> int | None:
    """Put off the message at the head of a queue; returns its id, None when the queue is empty now.

    Args:
        connection: to the database.
        queue_name: the queue.
        order: the column by which claims read the queue.
        reason: kept in the message's headers.
        without: msg_ids that claims pass over already.

    Raises:
        asyncpg.PostgresError: the database refuses this as well.
    """
    ours = ours_in("q.headers")
    statement = fill(
        "queue/park", queue_table=queue_table(queue_name), ours=ours, parks=counter("parks", ours=ours), order=order
    )
    row = await connection.fetchrow(statement, PARKED_FOR, reason, LONGEST_PARKED, list(without))
    if row is None:
        return None
    msg_id: int = row["msg_id"]
    logger.warning(
        "queue %r: message %d could not be claimed and is put off by %.0f s: %s",
        queue_name, msg_id, row["seconds"], reason,
    )  # fmt: skip
    return msg_id


async def head(connection: Connection, queue_name: str, *, without: Collection[int]) -> int | None:
    """The id of the message that a claim of jobs would read first; None when the queue is empty now."""
    statement = fill("queue/head", queue_table=queue_table(queue_name))
    return await connection.fetchval(statement, list(without))


async def forgive(connection: Connection, queue_name: str, fences: Sequence[JobFence]) -> None:
    """Forget the losses of messages that are still held as given."""
    await connection.execute(
        fill("queue/forgive", queue_table=queue_table(queue_name)),
        [fence.msg_id for fence in fences],
        [fence.read_count for fence in fences],
    )
