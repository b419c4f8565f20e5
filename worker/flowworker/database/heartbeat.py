"""What workers say about themselves, and what they learn in return: one statement per beat for a whole process.

A beat writes `flowworker.workers` and, for flows, `pgflow.workers`. It returns how each own worker stands (marked
lost, deprecated, asked to drain), when a worker of the same flow or queue last ended, and which of a few others are
silent. It looks at a sample of them, so that its cost does not grow with the fleet.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import TypeAlias
from uuid import UUID

import asyncpg
import orjson

from flowworker.database.capabilities import Capabilities
from flowworker.database.connection import Connection
from flowworker.database.flow_results import storable_text
from flowworker.database.records import Peer, SourceKind
from flowworker.database.statements import fill, load
from flowworker.option_change import OptionChange

LONGEST_ERROR = 512
"""Characters of `last_error`; the rest is cut."""

MOST_CHANGES = 20
"""Options that differ in one report; a condition names fewer."""

LOST = "lost"

SAMPLE = 10
"""Workers of each flow or queue that one beat looks at. Each is looked at by about as many others in each round, so
that all of them rarely miss a dead one."""

FIRST_ID = UUID(int=0)

HEALTH_COLUMNS = frozenset(
    f"workers.{column}"
    for column in (
        "begun_at", "unwritten_for", "unclaimed_for", "doubts", "network_namespace", "ended_at", "option_changes",
    )
)  # fmt: skip
"""Columns that an installation from before does not have; workers run without them."""


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
    """Seconds that a task may take; None where pgflow's tables contain it."""
    namespace: str | None = None
    flowworker: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    revision: str | None = None
    begun_at: datetime | None = None
    """The handlers of all claims up to this time of the database have been launched; None when that is not known."""
    unwritten_for: float | None = None
    """Age in seconds of the oldest result that is not written yet; None when all are."""
    unclaimed_for: float | None = None
    """Seconds for which it has wanted to claim and no claim was answered; None while it wants none."""
    doubts: int = 0
    """Claims and writes whose outcome is not known."""
    network_namespace: str | None = None
    """Where the process has bound its socket (`flowworker.runtime.heartbeat.liveness_socket`); None when it has not."""
    option_changes: Sequence[OptionChange] | None = None
    """Options of the flow that the database had otherwise at the start, at most `MOST_CHANGES`; None for a queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """A request to claim nothing more, in force until it lapses."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Another process that goes under one of our ids."""

    boot_id: UUID
    beat: datetime
    """Changes with every heartbeat of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRow:
    """How one of our own workers stands in the database after a beat."""

    state: str
    deprecated: bool
    """A tool of pgflow has set `deprecated_at`; there is no way back."""
    drain: Drain | None
    written: bool = True
    """Whether this heartbeat is in the row: not while someone else has it locked, nor once another process has it."""
    holder: Holder | None = None
    """The process that the id belongs to; None when it is ours."""

    @property
    def lost(self) -> bool:
        """Declared dead, or replaced under its id: the worker must drop what it holds and take a new id."""
        return self.state == LOST or self.holder is not None


Served: TypeAlias = tuple[SourceKind, str]
"""What a worker serves: (kind, slug)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Which of the other workers a beat looks at."""

    since: datetime | None = None
    """The database's time since which a living worker has surely reported; with None, no worker is judged."""
    after: UUID = FIRST_ID
    """Random: the sample is who follows this id."""
    sample: int = SAMPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """What a beat saw of the other workers of one flow or queue."""

    silent: Sequence[Peer] = ()
    looked_at: int = 0
    """Workers in the sample, ours included."""
    last_end: datetime | None = None
    """When one last stopped or was marked lost; None when no worker has, or the database does not know."""
    saw_end: bool = False
    """That one would be in the sample, if it still lived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a beat brought back."""

    own: Mapping[UUID, OwnRow]
    crews: Mapping[Served, Crew]
    """Every own (kind, slug) is a key."""
    at: datetime
    """The database's clock during the beat."""
    server: datetime
    """When the server started: another one answers after a failover or a restart."""


async def register(
    connection: Connection,
    reports: Sequence[Report],
    *,
    health: bool = True,
    stamps: bool = False,
    tracks: bool = False,
    is_gone: Callable[[UUID], bool] = lambda _: False,
) -> Beat:
    """The first beat of an incarnation; also takes over an id whose worker has ended.

    Workers that were here before and whose process is gone are marked lost first: recovery need not wait for their
    silence. An id that belongs to a process that may live is left alone; `OwnRow.holder` says so.

    Args:
        connection: to the database.
        reports: of workers of one process.
        health: whether the database has `HEALTH_COLUMNS`.
        stamps: whether pgflow's table names the version of each worker's software.
        tracks: whether functions that start by themselves can be registered with pgflow.
        is_gone: whether the process of a boot id in our own network namespace has ended.
    """
    if health:
        await _mark_gone(connection, reports, is_gone)
    if tracks:
        with suppress(asyncpg.PostgresError):  # pgflow's tools show less; the worker needs nothing of it
            await connection.execute(load("workers/track"), [r.slug for r in reports if r.kind is SourceKind.FLOW])
    return await _beat(connection, reports, look=Look(), health=health, stamps=stamps, revive=True)


async def beat(
    connection: Connection,
    reports: Sequence[Report],
    *,
    look: Look | None = None,
    health: bool = True,
    stamps: bool = False,
) -> Beat:
    """One heartbeat for all workers of the process; never revives a row that is marked lost or stopped.

    A worker whose row someone else has locked is left out, and `OwnRow.written` says so. While pgflow's table is
    locked, as by a migration of it, only ours is written: it is the one that peers go by.
    """
    looked = look or Look()
    try:
        return await _beat(connection, reports, look=looked, health=health, stamps=stamps, revive=False)
    except asyncpg.LockNotAvailableError:
        return await _beat(connection, reports, look=looked, health=health, stamps=False, revive=False, pgflow=False)


async def mark_stopped(connection: Connection, last: Sequence[Report], features: Capabilities) -> None:
    """Write the end of workers that stopped in good order, with what their last reports count."""
    worker_ids = [report.worker_id for report in last]
    await connection.execute(
        load("workers/mark_stopped"),
        worker_ids,
        [report.completed for report in last],
        [report.failed for report in last],
    )
    if features.pgflow:
        name = "mark_stopped_in_pgflow" if features.stopped_at else "deprecate_in_pgflow"
        await connection.execute(load(f"workers/{name}"), worker_ids)


async def prune(connection: Connection) -> tuple[int, int]:
    """Forget workers that ended a day ago and drains that lapsed a day ago; returns how many of each."""
    row = await connection.fetchrow(load("workers/prune"))
    assert row is not None
    return row["workers"], row["drains"]


async def _mark_gone(connection: Connection, reports: Sequence[Report], is_gone: Callable[[UUID], bool]) -> None:
    ours = reports[0]
    if ours.network_namespace is None:
        return
    rows = await connection.fetch(
        load("workers/predecessors"),
        ours.network_namespace,
        ours.boot_id,
        ours.pod_uid,
        [report.kind for report in reports],
        [report.slug for report in reports],
        [report.worker_id for report in reports],
    )
    gone = [row for row in rows if is_gone(row["boot_id"])]
    if gone:
        ids, boots = [row["worker_id"] for row in gone], [row["boot_id"] for row in gone]
        await connection.execute(load("workers/mark_gone"), ids, boots)


async def _beat(
    connection: Connection,
    reports: Sequence[Report],
    *,
    look: Look,
    health: bool,
    stamps: bool,
    revive: bool,
    pgflow: bool = True,
) -> Beat:
    with_pgflow = pgflow and any(report.kind is SourceKind.FLOW for report in reports)
    encoding = connection.get_settings().server_encoding
    payload = orjson.dumps([_as_json(report, encoding) for report in reports])
    statement = beat_statement(with_pgflow=with_pgflow, health=health, stamps=stamps, revive=revive)
    rows = await connection.fetch(statement, payload, look.since, look.after, look.sample)
    boots = {report.worker_id: report.boot_id for report in reports}
    own = [row for row in rows if row["what"] == "own"]
    return Beat(
        own={row["worker_id"]: _own_row(row, boots[row["worker_id"]]) for row in own},
        crews={(SourceKind(row["kind"]), row["slug"]): _crew(row, rows) for row in rows if row["what"] == "served"},
        at=own[0]["now"],
        server=own[0]["server"],
    )


@cache
def beat_statement(*, with_pgflow: bool, health: bool, stamps: bool, revive: bool) -> str:
    """The text of a heartbeat; it takes reports as JSON, and the fields of a `Look`.

    Args:
        with_pgflow: whether it writes pgflow's own table too.
        health: whether the database has `HEALTH_COLUMNS`.
        stamps: whether pgflow's own table names the version of each worker's software.
        revive: whether it may begin a new incarnation under an id that has ended.
    """
    ended, same_process = "w.state IN ('lost', 'stopped')", "w.boot_id = excluded.boot_id"
    unless_locked = "" if revive else "SKIP LOCKED"
    registered = "workers/registered_in_pgflow" if with_pgflow else "workers/registered_nowhere"
    return fill(
        "workers/beat",
        unless_locked=unless_locked,
        registered=fill(
            registered,
            unless_locked=unless_locked,
            version_column=load("workers/version_column" if stamps else "workers/nothing"),
            version_value=load("workers/version_value" if stamps else "workers/nothing"),
        ),
        may_write=f"{ended} OR {same_process}" if revive else f"NOT {ended} AND {same_process}",
        health_columns=load("workers/health_columns" if health else "workers/nothing"),
        health_updates=load("workers/health_updates" if health else "workers/nothing"),
        last_end=load("workers/last_end" if health else "workers/last_end_unknown"),
    )


def _as_json(report: Report, encoding: str) -> dict[str, object]:
    error = None if report.last_error is None else _in_any_encoding(report.last_error, encoding)[:LONGEST_ERROR]
    return {**asdict(report), "last_error": error, "worker_name": _in_any_encoding(report.worker_name, encoding)}


def _in_any_encoding(text: str, encoding: str) -> str:
    """The text as a database of this encoding holds it: no letter of an error may cost a heartbeat."""
    storable = storable_text(text.replace("\0", ""))
    return storable if encoding == "UTF8" else storable.encode("ascii", "backslashreplace").decode()


def _own_row(row: asyncpg.Record, boot_id: UUID) -> OwnRow:
    until = row["drain_until"]
    drain = None if until is None else Drain(until=until, reason=row["drain_reason"])
    foreign = not row["written"] and row["boot_id"] not in {None, boot_id}
    holder = Holder(boot_id=row["boot_id"], beat=row["reported_at"]) if foreign else None
    return OwnRow(state=row["state"], deprecated=row["deprecated"], drain=drain, written=row["written"], holder=holder)


def _crew(served: asyncpg.Record, rows: Sequence[asyncpg.Record]) -> Crew:
    work = served["kind"], served["slug"]
    silent = [_peer(row) for row in rows if row["what"] == "silent" and (row["kind"], row["slug"]) == work]
    return Crew(silent=silent, looked_at=served["looked_at"], last_end=served["reported_at"], saw_end=served["seen"])


def _peer(row: asyncpg.Record) -> Peer:
    return Peer(
        worker_id=row["worker_id"],
        boot_id=row["boot_id"],
        pod_uid=row["pod_uid"],
        state=row["state"],
        beat=row["reported_at"],
    )
