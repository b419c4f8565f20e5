"""Tasks that a dead worker left started: finding them, and deciding what becomes of each.

The death of a worker is not the task's failure, so the task is released with its attempt not charged, and its message
counts the loss. A task that keeps killing workers ends at the crash budget.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from flowworker.database.connection import Connection
from flowworker.database.flow_results import Fence
from flowworker.database.headers import losses_of
from flowworker.database.identifiers import queue_table
from flowworker.database.records import Peer
from flowworker.database.statements import fill, load

CRASH_BUDGET = 3
"""Losses forgiven; the next one fails the task for good."""

FOREIGN_GRACE = 60.0
"""Seconds past its effective timeout after which the task of a worker that does not report to us is taken."""

BATCH = 200
HEAD_OF_QUEUE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranded:
    """A started task that its worker will never finish."""

    fence: Fence
    losses: int
    """How often a worker died holding it before."""
    is_foreign: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """Queue it again, with this many losses on record."""

    losses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bury:
    """Fail it for good."""

    error: str


Fate: TypeAlias = GiveBack | Bury


def fate_of(losses: int, *, budget: int = CRASH_BUDGET) -> Fate:
    """Decide about a task (or job) whose worker has died once more.

    Args:
        losses: deaths before this one.
        budget: deaths that are forgiven.
    """
    if losses < budget:
        return GiveBack(losses=losses + 1)
    return Bury(error=crash_message(losses + 1, budget))


def crash_message(losses: int, budget: int = CRASH_BUDGET) -> str:
    """The error of a task that is past its crash budget."""
    return (
        f"{losses} workers died while they ran this task; {budget} such losses are forgiven. "
        "Look for what kills the process: memory, os._exit, a crash in native code."
    )


async def mark_lost(connection: Connection, slug: str, dead: Collection[Peer]) -> list[UUID]:
    """Mark peers lost whose beat is still the one given; returns those that were."""
    rows = await connection.fetch(
        load("recovery/mark_lost"), [peer.worker_id for peer in dead], [peer.beat for peer in dead], slug
    )
    return [row["worker_id"] for row in rows]


async def find_stranded(connection: Connection, flow_slug: str, *, own_id: UUID) -> list[Stranded]:
    """Tasks of a flow that nobody will finish, oldest first, at most `BATCH`; never this worker's own."""
    statement = fill("recovery/stranded", queue_table=queue_table(flow_slug))
    rows = await connection.fetch(statement, flow_slug, own_id, FOREIGN_GRACE, BATCH)
    return [
        Stranded(
            fence=Fence(
                worker_id=row["worker_id"],
                run_id=row["run_id"],
                step_slug=row["step_slug"],
                task_index=row["task_index"],
                attempt=row["attempt"],
                started_at=row["started_at"],
            ),
            losses=losses_of(row["headers"]),
            is_foreign=row["is_foreign"],
        )
        for row in rows
    ]


async def find_ghosts(connection: Connection, flow_slug: str) -> list[int]:
    """Visible messages at the head of a flow's queue whose task can never start again."""
    statement = fill("recovery/ghosts", queue_table=queue_table(flow_slug))
    return [row["msg_id"] for row in await connection.fetch(statement, flow_slug, HEAD_OF_QUEUE)]
