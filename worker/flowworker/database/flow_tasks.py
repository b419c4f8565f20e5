"""The claim's side of a pgflow flow: reading, starting, holding and finding its tasks.

Thin functions over one statement each; `flowworker.runtime.sources.flow_source` decides which one runs when.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import UUID

import asyncpg

from flowworker.database.capabilities import Capabilities
from flowworker.database.claims import Ticket, counter, deadline_of, ours_in, ticket_of
from flowworker.database.connection import Connection
from flowworker.database.flow_results import Fence
from flowworker.database.identifiers import queue_table
from flowworker.database.leftovers import Leftover
from flowworker.database.server_clock import ServerClock, moment
from flowworker.database.statements import fill, load

GRACE = 10
"""Seconds between a task's timeout and its message becoming visible again."""

READ_VISIBILITY = 5
"""Seconds a message stays invisible that was read and turned out not to be startable."""

QUEUED_AFTER_OUR_START = "started_at_is_after_queued_at"
"""Constraint hit by a claim whose transaction began before the task was queued; trying again helps at once."""

ROUTED_ARITY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedStep:
    """A step this process has a handler for."""

    slug: str
    is_map: bool
    visibility: int
    """Seconds a claimed message stays invisible: the effective timeout and some grace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMessage:
    """A message one claim has read, and the task it started, if any."""

    msg_id: int
    read_count: int
    enqueued_at: datetime
    visible_at: datetime
    headers: bytes | None
    losses: int
    """How often a worker was marked lost after it had begun this task, counted in the headers."""
    step_slug: str | None
    """None when no task was started."""
    input: bytes
    flow_input: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedTask:
    """A task that is started under this worker's id."""

    msg_id: int
    run_id: UUID
    step_slug: str
    task_index: int
    attempt: int
    started_at: datetime
    max_attempts: int
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowClaim:
    """What one claim has read and started."""

    ticket: Ticket
    messages: Sequence[ReadMessage]
    """In order of msg_id."""


async def read_and_start(
    connection: Connection,
    features: Capabilities,
    *,
    flow_slug: str,
    worker_id: UUID,
    limit: int,
    steps: Sequence[ServedStep],
    clock: ServerClock,
) -> FlowClaim:
    """Read at most `limit` messages and start those of the given steps.

    Raises:
        asyncpg.CheckViolationError: see `is_early_start`.
        asyncpg.ForeignKeyViolationError: the worker is not registered with pgflow.
        DatabaseUnavailableError: the claim came late, or the worker is not registered; it read nothing.
    """
    deadline = await deadline_of(connection, clock)
    own_maps = features.own_map_tasks and any(step.is_map for step in steps)
    rows = await connection.fetch(
        claim_statement(flow_slug, routed=features.start_tasks_arity >= ROUTED_ARITY, own_maps=own_maps),
        flow_slug,
        READ_VISIBILITY,
        limit,
        worker_id,
        [step.slug for step in steps],
        [step.visibility for step in steps],
        [step.is_map for step in steps],
        deadline,
    )
    ticket = ticket_of(rows[0], deadline=deadline, clock=clock, name=flow_slug)
    return FlowClaim(ticket=ticket, messages=[_read_message(row) for row in rows if row["msg_id"] is not None])


def is_early_start(error: asyncpg.PostgresError) -> bool:
    """Whether a claim merely began a moment before one of its tasks was queued."""
    return (
        isinstance(error, asyncpg.CheckViolationError)
        and getattr(error, "constraint_name", None) == QUEUED_AFTER_OUR_START
    )


async def owned_tasks(connection: Connection, *, flow_slug: str, worker_id: UUID) -> list[OwnedTask]:
    """Every task of a living run that is started under this worker's id."""
    rows = await connection.fetch(load("flow/owned"), worker_id, flow_slug)
    return [OwnedTask(**dict(row)) for row in rows]


async def leftovers(
    connection: Connection, features: Capabilities, flow_slug: str, messages: Sequence[ReadMessage]
) -> list[Leftover]:
    """What stands behind messages that could not be started."""
    read_counts = {message.msg_id: message.read_count for message in messages}
    statement = fill("flow/leftovers", by_queue=by_queue(features))
    rows = await connection.fetch(statement, flow_slug, list(read_counts))
    return [Leftover(read_count=read_counts[row["msg_id"]], **row) for row in rows]


def by_queue(features: Capabilities) -> str:
    """What narrows a look-up of the tasks `t` of flow $1 by their messages down to an index."""
    return load("flow/by_queue") if features.queue_columns else ""


async def archive(connection: Connection, queue_name: str, msg_ids: Sequence[int]) -> int:
    """Archive messages; those already gone do no harm. Returns how many were there."""
    count: int = await connection.fetchval(load("flow/archive"), queue_name, list(msg_ids))
    return count


async def delay(connection: Connection, queue_name: str, delays: Mapping[int, tuple[datetime, float]]) -> None:
    """Make messages invisible for some seconds, by msg_id: (the visibility known to us, seconds from now)."""
    statement = fill("flow/delay", queue_table=queue_table(queue_name))
    known = [vt for vt, _ in delays.values()]
    await connection.execute(statement, list(delays), known, [seconds for _, seconds in delays.values()])


async def lost_fences(connection: Connection, fences: Sequence[Fence]) -> list[int]:
    """Check tasks of any number of flows and workers; return the positions of those that are no longer held."""
    rows = await connection.fetch(
        load("flow/held"),
        [fence.worker_id for fence in fences],
        [fence.run_id for fence in fences],
        [fence.step_slug for fence in fences],
        [fence.task_index for fence in fences],
        [fence.attempt for fence in fences],
        [fence.started_at for fence in fences],
    )
    return [row["number"] - 1 for row in rows]


async def prolong(
    connection: Connection, queue_name: str, msg_ids: Sequence[int], *, seconds: float
) -> dict[int, datetime]:
    """Keep messages invisible for this long from now, whose tasks are held; return until when, by msg_id.

    Those that are missing in the answer are being finished.
    """
    rows = await connection.fetch(
        fill("flow/prolong", queue_table=queue_table(queue_name)), list(msg_ids), seconds
    )  # fmt: skip
    return {row["msg_id"]: row["vt"] for row in rows}


async def next_due(connection: Connection, queue_name: str) -> float | None:
    """Seconds until the earliest invisible message becomes visible; works for any pgmq queue."""
    due: float | None = await connection.fetchval(fill("flow/next_due", queue_table=queue_table(queue_name)))
    return due


async def flow_input(connection: Connection, run_id: UUID) -> bytes | None:
    """A run's input; None when there is no such run."""
    value: bytes | None = await connection.fetchval(load("flow/flow_input"), run_id)
    return value


async def effective_timeouts(connection: Connection, flow_slug: str) -> dict[str | None, int]:
    """Timeouts in seconds by step; empty for an unknown flow, the only key None for a flow without steps."""
    rows = await connection.fetch(load("flow/steps"), flow_slug)
    return {row["step_slug"]: row["timeout"] for row in rows}


@cache
def claim_statement(flow_slug: str, *, routed: bool, own_maps: bool) -> str:
    """The text of a claim.

    Args:
        flow_slug: the flow, whose queue has its name.
        routed: the core names queues.
        own_maps: there are maps, and our function that starts their tasks; used where it equals the core's. What
            a statement has and does not need costs a tenth of a millisecond.
    """
    return fill(
        "flow/claim",
        queue_table=queue_table(flow_slug),
        start_tasks=load("flow/start_tasks_routed" if routed else "flow/start_tasks_plain"),
        starts_map=load("flow/starts_map") if own_maps else "false",
        start_map_tasks=load("flow/start_map_tasks") if own_maps else "",
        losses=counter("losses", ours=ours_in("message.headers")),
    )


def _read_message(row: asyncpg.Record) -> ReadMessage:
    return ReadMessage(
        msg_id=row["msg_id"],
        read_count=row["read_ct"],
        enqueued_at=moment(row["enqueued_at"]),
        visible_at=moment(row["vt"]),
        headers=row["headers"],
        losses=row["losses"],
        step_slug=row["step_slug"],
        input=b"null" if row["input"] is None else row["input"],
        flow_input=row["flow_input"],
    )
