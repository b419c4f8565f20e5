"""Runs that are under way and will not go on by themselves, and why."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg

from flowworker.database.connection import AnyConnection
from flowworker.database.faults import translated
from flowworker.database.identifiers import queue_table
from flowworker.database.run_search import SEARCH_TIMEOUT, bounded
from flowworker.database.statements import fill, load

UNSERVED_FOR = 300.0
"""Seconds for which no worker has served a flow before its runs count as stuck: an operator starts one much sooner."""


SILENT_AFTER = 60.0
"""Seconds without a heartbeat after which a worker serves nothing, however short `unserved_for` is."""


class StuckReason(StrEnum):
    """Why a run does not go on."""

    NOT_SERVED = "not served"
    """A task may start, and there is no worker for it."""
    WORKER_GONE = "worker gone"
    """A task is started, and there is no worker that has it, nor one that would take it over."""
    MESSAGE_GONE = "message gone"
    """A task waits, and its message is not in the queue: no worker can find it."""
    STALLED = "stalled"
    """pgflow has put a task back so often that it leaves it to people."""
    NOTHING_LEFT = "nothing left"
    """No task is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckRun:
    """One run that does not go on."""

    run_id: UUID
    flow_slug: str
    started_at: datetime
    step_slug: str | None
    """Of the task that waits longest; None where none is open."""
    task_index: int | None
    reason: StuckReason
    since: datetime
    """When that task was queued or started; when the run was, where none is open."""


async def stuck_runs(
    connection: AnyConnection,
    *,
    flow_slug: str | None,
    unserved_for: float,
    limit: int,
    timeout: float = SEARCH_TIMEOUT,
) -> list[StuckRun]:
    """At most `limit` runs that are stuck, flow by flow, the oldest first.

    Raises:
        DataError: to look at all runs under way took too long.
    """
    found: list[StuckRun] = []
    with translated("look for stuck runs"):
        async with bounded(connection, timeout):
            for row in await connection.fetch(load("client/active_flows"), flow_slug):
                queue = queue_table(row["flow_slug"]) if row["has_queue"] else load("client/no_queue")
                found += await _of_flow(connection, row["flow_slug"], queue, unserved_for, limit - len(found))
                if len(found) >= limit:
                    break
    return found


async def _of_flow(
    connection: AnyConnection, flow_slug: str, queue: str, unserved_for: float, limit: int
) -> list[StuckRun]:
    statement = fill("client/stuck_runs", queue_table=queue)
    rows = await connection.fetch(statement, flow_slug, unserved_for, limit, SILENT_AFTER)
    return [_stuck(row) for row in rows]


def _stuck(row: asyncpg.Record) -> StuckRun:
    values = dict(row)
    return StuckRun(reason=StuckReason(values.pop("reason")), **values)
