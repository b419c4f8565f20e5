"""The finish's side of a pgflow flow: writing results behind the fence and finding out what became of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any
from uuid import UUID

import asyncpg

from flowworker.database.connection import Connection
from flowworker.database.identifiers import insert_channel, queue_table
from flowworker.database.records import ClaimedTask, Failed, RunEnd, RunStatus
from flowworker.database.statements import fill, load

LONGEST_DELAY = 10 * 365 * 86_400
"""Seconds; a longer wish of a handler is cut, because PostgreSQL's integer ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Names one attempt of one task. A write behind it is refused once the row shows another attempt."""

    worker_id: UUID | None
    run_id: UUID
    step_slug: str
    task_index: int
    attempt: int
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a finishing statement returned for one result that passed the fence."""

    status: str | None
    """The task's status afterwards; None where the core returns no row (a type violation on core 0.8)."""
    error: str | None
    retry_in: float | None
    written_at: datetime
    """The transaction's time: a run that ended at this very instant was ended by this write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNow:
    """A task's row as it stands."""

    status: str
    run_status: str
    error: str | None
    attempt: int
    worker_id: UUID | None
    started_at: datetime | None
    written_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed attempt in pgflow's terms."""

    error: str
    final: bool = False
    retry_after: float | None = None


def fence_of(task: ClaimedTask, worker_id: UUID | None) -> Fence:
    """The fence of a claimed flow task."""
    assert task.run_id is not None
    assert task.started_at is not None
    return Fence(
        worker_id=worker_id,
        run_id=task.run_id,
        step_slug=task.step_slug,
        task_index=task.task_index,
        attempt=task.attempt,
        started_at=task.started_at,
    )


def failure_of(outcome: Failed) -> Failure:
    """What is written to pgflow about a failed attempt."""
    return Failure(error=storable_text(outcome.message), final=outcome.final, retry_after=outcome.retry_after)


def storable_text(text: str) -> str:
    """The text with what PostgreSQL cannot hold (zero characters, lone surrogates) replaced."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


async def complete(
    connection: Connection,
    worker_id: UUID,
    fences: Sequence[Fence],
    outputs: Sequence[bytes],
    *,
    own_maps: bool,
    queue_name: str,
    decisive: Sequence[int] = (),
    skip_locked: bool = False,
) -> dict[int, Answer]:
    """Complete tasks; answers by position, without those whose fence was lost and, if so wanted, what is locked.

    Args:
        connection: the connection to use.
        worker_id: of the worker that holds them.
        fences: the attempts.
        outputs: for each, as JSON.
        own_maps: our function that completes tasks of maps is there; used where it equals the core's.
        queue_name: of the tasks' messages.
        decisive: positions of tasks after which their run may fail by a condition, on cores that then end its others.
        skip_locked: leave out what is locked.
    """
    arguments = (worker_id, *_columns(fences), list(outputs))
    if decisive:
        statement = decisive_statement(queue_name, skip_locked=skip_locked)
        return _answers(await connection.fetch(statement, *arguments, [position + 1 for position in decisive]))
    statement = complete_statement(own_maps=own_maps, skip_locked=skip_locked)
    return _answers(await connection.fetch(statement, *arguments))


def complete_statement(*, own_maps: bool, skip_locked: bool = False) -> str:
    """The text of a write of outputs; see `complete`."""
    fenced = fill("flow/fenced_results", unless_locked=_unless_locked(skip_locked))
    if own_maps:
        return fill("flow/complete_maps", fenced_results=fenced)
    return fill("flow/complete", fenced_results=fenced, waiting="", after_waiting="")


def decisive_statement(queue_name: str, *, skip_locked: bool = False) -> str:
    """The text of a write of outputs some of which may fail their run; see `complete`."""
    return fill(
        "flow/complete",
        fenced_results=fill("flow/fenced_results", unless_locked=_unless_locked(skip_locked)),
        waiting=fill("flow/waiting", queue_table=queue_table(queue_name)),
        after_waiting=load("flow/after_waiting"),
    )


async def fail(
    connection: Connection,
    queue_name: str,
    fences: Sequence[Fence],
    failures: Sequence[Failure],
    *,
    skip_locked: bool = False,
) -> dict[int, Answer]:
    """Fail attempts; answers by position, without those whose fence was lost and, if so wanted, what is locked."""
    rows = await connection.fetch(
        fill("flow/fail", queue_table=queue_table(queue_name), unless_locked=_unless_locked(skip_locked)),
        queue_name,
        [fence.worker_id for fence in fences],
        *_columns(fences),
        [failure.error for failure in failures],
        [failure.final for failure in failures],
        [_whole_seconds(failure.retry_after) for failure in failures],
    )
    return _answers(rows)


async def release(
    connection: Connection,
    queue_name: str,
    fences: Sequence[Fence],
    losses: Sequence[int],
    *,
    waits: Sequence[float] | None = None,
    skip_locked: bool = False,
) -> dict[int, Answer]:
    """Give tasks back, their attempt not charged; answers by position, without those whose fence was lost.

    Args:
        connection: the connection to use.
        queue_name: the flow's queue.
        fences: the attempts to give up.
        losses: for each, how often a worker has died holding it, 0 to leave the count alone.
        waits: for each, seconds until it may start again; at once by default.
        skip_locked: leave out tasks that another transaction has locked.
    """
    rows = await connection.fetch(
        fill("flow/release", queue_table=queue_table(queue_name), unless_locked=_unless_locked(skip_locked)),
        [fence.worker_id for fence in fences],
        *_columns(fences),
        list(losses),
        [0.0] * len(fences) if waits is None else list(waits),
        insert_channel(queue_name),
    )
    return _answers(rows)


async def look(connection: Connection, fences: Sequence[Fence]) -> dict[int, TaskNow]:
    """The rows of tasks as they stand, by position."""
    run_ids, steps, indexes, *_ = _columns(fences)
    rows = await connection.fetch(load("flow/look"), run_ids, steps, indexes)
    return {row["position"] - 1: TaskNow(**_without(row, "position")) for row in rows}


async def ended_runs(
    connection: Connection, run_ids: Collection[UUID], written_at: Collection[datetime]
) -> list[RunEnd]:
    """Those of the runs that ended at one of the instants."""
    rows = await connection.fetch(load("flow/ended_runs"), list(run_ids), list(written_at))
    return [
        RunEnd(run_id=row["run_id"], status=RunStatus(row["status"]), duration=row["duration"], error=row["error"])
        for row in rows
    ]


def _unless_locked(skip_locked: bool) -> str:
    return load("flow/unless_locked") if skip_locked else ""


def _columns(fences: Sequence[Fence]) -> tuple[list[Any], ...]:
    """Run ids, steps, indexes, attempts and start times, as the statements take them."""
    return (
        [fence.run_id for fence in fences],
        [fence.step_slug for fence in fences],
        [fence.task_index for fence in fences],
        [fence.attempt for fence in fences],
        [fence.started_at for fence in fences],
    )


def _answers(rows: Sequence[asyncpg.Record]) -> dict[int, Answer]:
    return {
        row["position"] - 1: Answer(
            status=row["status"], error=row["error"], retry_in=row["retry_in"], written_at=row["written_at"]
        )
        for row in rows
    }


def _without(row: asyncpg.Record, name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def _whole_seconds(delay: float | None) -> int | None:
    return None if delay is None else ceil(min(delay, LONGEST_DELAY))
