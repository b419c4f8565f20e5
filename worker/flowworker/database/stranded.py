"""Tasks that a dead worker left started: finding them, and deciding what becomes of each.

The death of a worker is not the task's failure, so the task is released with its attempt not charged. Its message
counts the loss where there is evidence: the worker was marked lost, and had said that the handler had begun. A task
that keeps killing workers ends at the crash budget.
"""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from flowworker.database.capabilities import Capabilities
from flowworker.database.claims import counter, ours_in
from flowworker.database.connection import Connection
from flowworker.database.flow_results import Fence
from flowworker.database.flow_tasks import by_queue
from flowworker.database.identifiers import queue_table
from flowworker.database.records import Peer
from flowworker.database.statements import fill, load

CRASH_BUDGET = 3
"""Losses forgiven; the next one fails the task for good."""

FOREIGN_GRACE = 60.0
"""Seconds past its effective timeout after which the task of a worker that does not report to us is taken."""

APART = 30.0
"""Seconds between tasks that start again one by one; four times as many when they were lost together once more."""

LONGEST_APART = 300.0

BATCH = 200
HEAD_OF_QUEUE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranded:
    """A started task that its worker will never finish."""

    msg_id: int | None
    fence: Fence
    losses: int
    """Losses on record."""
    is_loss: bool
    """Its worker was marked lost after the handler had begun, or is a foreign one that left it past its timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """Queue it again, with this many losses on record."""

    losses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Fail it for good."""

    error: str


Fate: TypeAlias = GiveBack | GiveUp


def fate_of(losses: int, *, is_loss: bool, budget: int = CRASH_BUDGET) -> Fate:
    """Decide about a task whose worker is gone.

    Args:
        losses: on record, without this one.
        is_loss: whether this one counts.
        budget: losses that are forgiven.
    """
    total = losses + is_loss
    if total <= budget:
        return GiveBack(losses=total)
    return GiveUp(error=crash_message(total, budget))


def waits(losses: Mapping[int, int]) -> Mapping[int, float]:
    """Seconds for which tasks that are given back together wait before they start again.

    A worker takes all it runs along when it dies, and nothing shows which task has killed it. Those that were lost
    together for the second time start one by one, so that a culprit does it alone; for the third time in the other
    order, so that it also comes before those that run for longer than they are apart.

    Args:
        losses: by msg_id, this one included.

    Returns:
        Seconds by msg_id; 0 for a task that was lost once or alone.
    """
    found = dict.fromkeys(losses, 0.0)
    for total in {total for total in losses.values() if total >= 2}:
        together = sorted((msg_id for msg_id in losses if losses[msg_id] == total), reverse=total % 2 == 1)
        apart = APART * 4.0 ** (total - 2)
        found |= {msg_id: min(number * apart, LONGEST_APART) for number, msg_id in enumerate(together)}
    return found


def crash_message(losses: int, budget: int = CRASH_BUDGET) -> str:
    """The error of a task that is past its crash budget."""
    return (
        f"{losses} workers died while they ran this task; {budget} such losses are forgiven. "
        "Look for what kills the process: memory, os._exit, a crash in native code."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """Of the peers that are still silent; all empty where another observer is acting."""

    lost: Sequence[UUID]
    """They are now."""
    free: AbstractSet[UUID]
    """They were to be spared, and their rows could have been written."""
    locked: AbstractSet[UUID]
    """Their rows are locked, so they may be alive and kept from a heartbeat."""


async def mark_lost(
    connection: Connection, slug: str, dead: Collection[Peer], *, spared: Collection[UUID] = ()
) -> Marked:
    """Mark peers lost whose beat is still the one given, but for those that are spared."""
    rows = await connection.fetch(
        load("recovery/mark_lost"),
        [peer.worker_id for peer in dead],
        [peer.beat for peer in dead],
        slug,
        [peer.worker_id in spared for peer in dead],
    )
    return Marked(
        lost=[row["worker_id"] for row in rows if row["is_lost"]],
        free=frozenset(row["worker_id"] for row in rows if row["is_free"] and not row["is_lost"]),
        locked=frozenset(row["worker_id"] for row in rows if not row["is_free"]),
    )


async def find_stranded(
    connection: Connection, features: Capabilities, flow_slug: str, *, own_id: UUID, without: Collection[UUID] = ()
) -> list[Stranded]:
    """Tasks of a flow whose worker is gone, oldest first, at most `BATCH`; none of this worker, none of these runs."""
    statement = fill(
        "recovery/stranded",
        queue_table=queue_table(flow_slug),
        losses=counter("losses", ours=ours_in("q.headers")),
        begun="t.started_at <= w.begun_at" if features.begun_at else "true",
    )
    rows = await connection.fetch(statement, flow_slug, own_id, FOREIGN_GRACE, BATCH, list(without))
    return [
        Stranded(
            msg_id=row["msg_id"],
            fence=Fence(
                worker_id=row["worker_id"],
                run_id=row["run_id"],
                step_slug=row["step_slug"],
                task_index=row["task_index"],
                attempt=row["attempt"],
                started_at=row["started_at"],
            ),
            losses=row["losses"],
            is_loss=row["is_loss"],
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTask:
    """A task of a failed run that is still `started`."""

    run_id: UUID
    step_slug: str
    task_index: int
    msg_id: int | None
    is_own: bool


async def find_ended(connection: Connection, flow_slug: str, *, own_id: UUID) -> list[EndedTask]:
    """Started tasks of failed runs, of workers that are gone and of this one; at most `BATCH`."""
    rows = await connection.fetch(load("recovery/ended"), flow_slug, own_id, BATCH)
    return [EndedTask(**dict(row)) for row in rows]


async def settle(connection: Connection, tasks: Sequence[EndedTask]) -> None:
    """End tasks of failed runs."""
    await connection.fetchval(
        load("recovery/settle"),
        [task.run_id for task in tasks],
        [task.step_slug for task in tasks],
        [task.task_index for task in tasks],
    )


async def find_ghosts(connection: Connection, features: Capabilities, flow_slug: str) -> list[int]:
    """Visible messages at the head of a flow's queue whose task can never start again."""
    statement = fill("recovery/ghosts", queue_table=queue_table(flow_slug), by_queue=by_queue(features))
    return [row["msg_id"] for row in await connection.fetch(statement, flow_slug, HEAD_OF_QUEUE)]
