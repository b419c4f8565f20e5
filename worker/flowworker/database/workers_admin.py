"""Reading what workers report about themselves, and asking them to drain."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from flowworker.database.connection import AnyConnection
from flowworker.database.faults import translated
from flowworker.database.records import SourceKind
from flowworker.database.statements import load


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """One incarnation of a worker, as its last heartbeat described it."""

    worker_id: UUID
    worker_name: str
    kind: SourceKind
    slug: str
    state: str
    in_flight: int
    slots: int
    completed: int
    failed: int
    pod_name: str | None
    pod_uid: str | None
    version: str
    last_error: str | None
    started_at: datetime
    reported_at: datetime
    age: float
    """Seconds since the last heartbeat, by the database's clock."""
    drain_until: datetime | None
    """Until when it is asked to drain; None when it is not."""
    drain_reason: str | None


async def list_workers(connection: AnyConnection, *, slug: str | None, ended: bool) -> list[WorkerReport]:
    """Workers of one flow or queue, or of all; `ended` adds those that stopped or were lost."""
    with translated("list workers"):
        rows = await connection.fetch(load("client/workers"), slug, ended)
    return [_report(row) for row in rows]


async def request_drain(connection: AnyConnection, targets: Sequence[str], *, seconds: float, reason: str) -> None:
    """Ask workers (ids or pod uids) to drain for the next `seconds`, or prolong that."""
    with translated("ask workers to drain"):
        await connection.execute(load("client/drain"), list(targets), seconds, reason)


async def end_drain(connection: AnyConnection, targets: Sequence[str]) -> None:
    """Let workers (ids or pod uids) go on before their drain lapses."""
    with translated("end a drain"):
        await connection.execute(load("client/resume"), list(targets))


def _report(row: asyncpg.Record) -> WorkerReport:
    values = dict(row)
    return WorkerReport(kind=SourceKind(values.pop("kind")), **values)
