"""What workers say about themselves, and what they learn in return: one statement per beat for a whole process.

A beat writes `flowworker.workers` and, for flows, `pgflow.workers`. It returns how each own worker stands (marked
lost, deprecated, asked to drain) and the other workers of the same flows and queues with their last beats.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import TypeAlias
from uuid import UUID

import asyncpg
import orjson

from flowworker.database.capabilities import Capabilities
from flowworker.database.connection import Connection
from flowworker.database.records import Peer, SourceKind
from flowworker.database.statements import fill, load

LONGEST_ERROR = 512
"""Characters of `last_error`; the rest is cut."""

LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One worker's report. `last_error` must be free of secrets; it is cut to `LONGEST_ERROR` characters."""

    worker_id: UUID
    boot_id: UUID
    """Shared by all workers of one process."""
    kind: SourceKind
    slug: str
    queue_name: str
    worker_name: str
    version: str
    state: str
    """A life-cycle state that flowworker.workers knows."""
    in_flight: int
    slots: int
    completed: int = 0
    failed: int = 0
    last_error: str | None = None
    longest_timeout: int | None = None
    """Seconds that a task may take; None where pgflow's tables tell it."""
    namespace: str | None = None
    flowworker: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """A request to claim nothing more, in force until it lapses."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRow:
    """How one of our own workers stands in the database after a beat."""

    state: str
    deprecated: bool
    """A tool of pgflow has set `deprecated_at`; there is no way back."""
    drain: Drain | None

    @property
    def lost(self) -> bool:
        """A peer or the operator has declared the worker dead: it must drop what it holds and take a new id."""
        return self.state == LOST


Served: TypeAlias = tuple[SourceKind, str]
"""What a worker serves: (kind, slug)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a beat brought back."""

    own: Mapping[UUID, OwnRow]
    peers: Mapping[Served, Sequence[Peer]]
    """Other processes' workers that have not ended, by what they serve; every own (kind, slug) is a key."""


async def register(connection: Connection, reports: Sequence[Report]) -> Beat:
    """The first beat of an incarnation; also takes over an id that was used before.

    Predecessors in the same pod are marked lost first, so that recovery need not wait for their silence.
    """
    successors = [report for report in reports if report.pod_uid is not None]
    async with connection.transaction():
        if successors:
            await connection.execute(
                load("workers/replace_predecessors"),
                [report.boot_id for report in successors],
                [report.kind for report in successors],
                [report.slug for report in successors],
                [report.pod_uid for report in successors],
            )
        return await _beat(connection, reports, revive=True)


async def beat(connection: Connection, reports: Sequence[Report]) -> Beat:
    """One heartbeat for all workers of the process; never revives a row that is marked lost or stopped."""
    return await _beat(connection, reports, revive=False)


async def mark_stopped(connection: Connection, worker_ids: Collection[UUID], features: Capabilities) -> None:
    """Write the end of workers that stopped in good order."""
    await connection.execute(load("workers/mark_stopped"), list(worker_ids))
    if features.pgflow:
        name = "mark_stopped_in_pgflow" if features.stopped_at else "deprecate_in_pgflow"
        await connection.execute(load(f"workers/{name}"), list(worker_ids))


async def prune(connection: Connection) -> tuple[int, int]:
    """Forget workers that ended a day ago and drains that lapsed a day ago; returns how many of each."""
    row = await connection.fetchrow(load("workers/prune"))
    assert row is not None
    return row["workers"], row["drains"]


async def _beat(connection: Connection, reports: Sequence[Report], *, revive: bool) -> Beat:
    with_pgflow = any(report.kind is SourceKind.FLOW for report in reports)
    payload = orjson.dumps([_as_json(report) for report in reports])
    rows = await connection.fetch(_statement(with_pgflow, revive), payload)
    peers: dict[Served, list[Peer]] = {(report.kind, report.slug): [] for report in reports}
    own: dict[UUID, OwnRow] = {}
    for row in rows:
        if row["own"]:
            own[row["worker_id"]] = _own_row(row)
        else:
            peers[SourceKind(row["kind"]), row["slug"]].append(_peer(row))
    return Beat(own=own, peers=peers)


@cache
def _statement(with_pgflow: bool, revive: bool) -> str:
    return fill(
        "workers/beat",
        registered=load("workers/registered_in_pgflow" if with_pgflow else "workers/registered_nowhere"),
        may_write="true" if revive else "w.state NOT IN ('lost', 'stopped')",
    )


def _as_json(report: Report) -> dict[str, object]:
    error = None if report.last_error is None else report.last_error.replace("\0", "")[:LONGEST_ERROR]
    return {**asdict(report), "last_error": error}


def _own_row(row: asyncpg.Record) -> OwnRow:
    until = row["drain_until"]
    drain = None if until is None else Drain(until=until, reason=row["drain_reason"])
    return OwnRow(state=row["state"], deprecated=row["deprecated"], drain=drain)


def _peer(row: asyncpg.Record) -> Peer:
    return Peer(
        worker_id=row["worker_id"],
        boot_id=row["boot_id"],
        pod_uid=row["pod_uid"],
        state=row["state"],
        beat=row["beat"],
    )
