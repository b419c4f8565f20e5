"""What the operator reads from a database: one bounded statement for any number of flows and queues.

Tables of queues differ by name, and a name cannot be bound: each queue that exists adds its own part to the statement.
Everything else is the same text for all, so that the statement stays prepared as long as the queues stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from asyncpg.prepared_stmt import PreparedStatement

from flowworker.database.capabilities import Capabilities
from flowworker.database.connection import Connection
from flowworker.database.heartbeat import MOST_CHANGES
from flowworker.database.identifiers import queue_table
from flowworker.database.records import SourceKind
from flowworker.database.statements import PLACEHOLDER, load
from flowworker.option_change import OptionChange

STATEMENT_TIMEOUT = timedelta(seconds=5)
LOCK_TIMEOUT = timedelta(seconds=1)

SPARE = 100
"""Messages looked at beyond the cap, because some may belong to no task that could start."""

LEFTOVERS = 1000
"""Started tasks looked at beyond the caps, because failed runs leave some behind."""

CREW = 2500
"""Workers looked at for one flow or queue, those of its FlowWorker first, the newest first: more than may run."""

ENDED = 50
"""Ended workers of one FlowWorker that are read, the latest first."""

ENDED_FOR = 600.0
"""Seconds for which an ended worker is read: its pod is gone by then, or has another one."""

SURVIVORS = 500
"""Workers of one flow, the newest first, among which one is sought that lived long enough to recover a task."""

RECOVERY_TAKES = 180.0
"""Seconds within which a worker recovers what dead ones left: two of its slow passes, and some."""

FOREIGN_PATIENCE = 90.0
"""Seconds past its timeout after which the task of a worker that does not report to us may be recovered, and some."""

CROWD = 200
"""Workers in an answer above which their errors are cut short: only some are shown."""

DENSITY = 30
"""Least bytes of JSON for each object or array in it: a worker's row has hundreds. What is denser is no answer to our
statement, and would take many times its size in memory."""

VALUE_DENSITY = 20
"""The same for each value but the first: a worker's row has 28 for each, a drain more."""

DENSE_AT_MOST = 4000
"""Objects and arrays, and values, in a text that is as dense as it likes."""

MOST_DRAINS = 2 * CREW
"""Of one FlowWorker in an answer: it has fewer pods, and what is kept of more would be kept in memory."""

OPTIONS = frozenset({"base_delay", "max_attempts", "start_delay", "timeout"})
"""Options of flows and steps that a worker compares."""

SILENCE = 4.0
"""Seconds without a heartbeat after which the worker of a silent pod is lost: a living one beats every 3 s."""

SETTINGS: Mapping[str, str] = {
    # A role that may create functions in a schema that comes first could answer in place of the catalogue.
    "search_path": "pg_catalog, pg_temp",
    "statement_timeout": f"{STATEMENT_TIMEOUT.total_seconds():g}s",
    "lock_timeout": f"{LOCK_TIMEOUT.total_seconds():g}s",
    "idle_in_transaction_session_timeout": "10s",
    # One plan for good: planning hundreds of queues anew would cost more than reading them.
    "plan_cache_mode": "force_generic_plan",
    # Whatever the statistics say, or do not say yet: every part of the probe follows an index to its limit.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
"""Of the probe's session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A flow or queue to read, for one FlowWorker."""

    kind: SourceKind
    slug: str
    cap: int
    """Counts end here."""
    namespace: str
    flowworker: str

    @property
    def asker(self) -> str:
        """Who asks for its drains."""
        return asker(self.namespace, self.flowworker)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """What one incarnation of a worker has reported."""

    worker_id: UUID
    boot_id: UUID
    kind: str
    slug: str
    namespace: str | None
    flowworker: str | None
    pod_uid: str | None
    state: str
    in_flight: int
    last_error: str | None
    on_last_attempt: bool
    """It runs a task of a flow that would fail for good if it were interrupted."""
    started_at: datetime
    unwritten_for: float | None = None
    """Age in seconds of its oldest result that is not written yet; None too where an older schema does not have it."""
    unclaimed_for: float | None = None
    """Seconds for which it has wanted to claim in vain; None too where an older schema does not have it."""
    doubts: int | None = None
    """Claims and writes whose outcome it does not know; None where an older schema does not have it."""
    beat: datetime
    """Changes with every heartbeat. Compare for equality only: it is the database's time, not the observer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading of one target; counts end at its cap."""

    startable: int
    depth: int
    """Visible messages."""
    oldest_startable_at: datetime | None
    delayed: int
    due_in: float | None
    in_flight: int
    """Tasks of a flow; of a queue only its workers know."""
    in_flight_cut: bool
    """There are more started tasks than were looked at."""
    stalled: int
    longest_timeout: int | None
    """Seconds; None for a queue, and for a flow that does not exist."""
    queue_readable: bool | None
    """Whether the role may read the queue's table; None while there is none."""
    queue_per_step: bool = False
    """The flow has a queue for each step, which no worker of ours serves: the counts say nothing."""
    workers: Sequence[WorkerRow] = ()
    """All that are alive, however they were started, and those of this FlowWorker that ended last."""
    option_changes: Mapping[str, Sequence[OptionChange]] = field(default_factory=dict[str, Sequence[OptionChange]])
    """What still differs of the options that the newest worker of each revision found; a revision without a report, and
    a queue, has no entry."""
    drains: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds since each drain of this FlowWorker's was asked for, by pod uid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The answer of one probe."""

    samples: Sequence[Sample]
    """In the order of the targets."""
    read_only: bool
    layout: int | None
    """Changes when columns were added to the tables that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOrder:
    """A drain to ask for, or to renew."""

    pod_uid: str
    seconds: float
    reason: str


async def identify(connection: Connection) -> str:
    """Which database this is: the server's identifier and the database's name."""
    name: str = await connection.fetchval(load("probe/identity"))
    return name


def statement(targets: Sequence[Target], queues: Sequence[bool], features: Capabilities) -> str:
    """The text of the probe.

    Args:
        targets: what is read; only kinds and slugs matter.
        queues: which of them have a queue that can be read.
        features: of the database.
    """
    changes = "u.option_changes" if "workers.option_changes" in features.own_columns else "NULL::jsonb"
    marked = "to_jsonb(n) ->> 'permanently_stalled_at' IS NOT NULL" if features.requeue_columns else "false"
    with_flows = any(target.kind is SourceKind.FLOW for target in targets)
    flows = _filled("probe/flows", marked_stalled=marked, option_changes=changes) if with_flows else None
    return _filled(
        "probe/probe",
        backlog="\nUNION ALL\n".join(_backlog(kind, targets, queues) for kind in SourceKind),
        flows=flows or load("probe/no_flows"),
    )


def arguments(targets: Sequence[Target]) -> tuple[Any, ...]:
    """The values to bind for these targets, in the order of the probe's parameters."""
    return (
        [target.kind.value for target in targets],
        [target.slug for target in targets],
        [target.cap for target in targets],
        [target.namespace for target in targets],
        [target.flowworker for target in targets],
        [target.asker for target in targets],
        [queue_table(target.slug) for target in targets],
        SPARE,
        sum(target.cap for target in targets if target.kind is SourceKind.FLOW) + LEFTOVERS,
        RECOVERY_TAKES,
        FOREIGN_PATIENCE,
        CREW,
        ENDED,
        ENDED_FOR,
        SURVIVORS,
        CROWD,
        MOST_CHANGES,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prepared probe; belongs to its connection."""

    statement: "PreparedStatement[asyncpg.Record]"

    async def ask(self, targets: Sequence[Target], *, timeout: float) -> Samples:
        """Read the targets that it was prepared for; only their caps and FlowWorkers may differ.

        Args:
            targets: what is read, at least one.
            timeout: seconds after which a server that does not even cancel the statement is given up.
        """
        rows = await self.statement.fetch(*arguments(targets), timeout=timeout)
        return Samples(
            samples=[_sample(target, row) for target, row in zip(targets, rows, strict=True)],
            read_only=rows[0]["read_only"],
            layout=rows[0]["layout"],
        )


async def prepare(connection: Connection, text: str, *, timeout: float) -> Question:
    """Have the server plan a text that `statement` made."""
    return Question(statement=await connection.prepare(text, timeout=timeout))


async def ask_drain(connection: Connection, by: str, orders: Sequence[DrainOrder]) -> frozenset[str]:
    """Ask for drains, or renew them; returns uids of the pods whose drain was not in force before."""
    rows = await connection.fetch(
        load("probe/drain"),
        by,
        [order.pod_uid for order in orders],
        [order.seconds for order in orders],
        [order.reason for order in orders],
    )
    return frozenset(row["target"] for row in rows if row["is_new"])


async def end_drain(connection: Connection, by: str, pod_uids: Sequence[str]) -> None:
    """Take back drains that were asked for under this name."""
    await connection.execute(load("probe/release"), by, list(pod_uids))


async def hold_proof(connection: Connection, number: int) -> None:
    """Take a lock by which another session of this database is recognised."""
    await connection.fetchval(load("probe/prove"), number)


async def sees_proof(connection: Connection, number: int) -> bool:
    """Whether a session of this database holds that lock."""
    seen: bool = await connection.fetchval(load("probe/proven"), number)
    return seen


async def end_proof(connection: Connection, number: int) -> bool:
    """Let go of that lock; whether it was held until now."""
    held: bool = await connection.fetchval(load("probe/end_proof"), number)
    return held


@dataclass(frozen=True, slots=True, kw_only=True)
class LostWorker:
    """A worker that ended without reporting it, as its last report described it."""

    name: str
    """Of its pod."""
    state: str
    in_flight: int
    """Tasks it held."""


async def mark_gone(connection: Connection, gone: Sequence[str], silent: Sequence[str]) -> list[LostWorker]:
    """Mark workers lost that cannot run any more; gives those that had not reported their end, by name.

    Args:
        connection: to the database.
        gone: uids of pods that are gone for sure, with all their workers.
        silent: uids of pods that may have started anew: of these only workers that have missed a heartbeat are marked.
    """
    rows = await connection.fetch(load("probe/mark_gone"), list(gone), list(silent), SILENCE)
    return sorted((LostWorker(**row) for row in rows), key=lambda worker: worker.name)


def asker(namespace: str, flowworker: str) -> str:
    """The name under which the operator asks for drains on behalf of a FlowWorker."""
    return f"operator/{namespace}/{flowworker}"


def _backlog(kind: SourceKind, targets: Sequence[Target], queues: Sequence[bool]) -> str:
    """The part for all flows, or for all queues: without any it must not even name the tables of pgflow."""
    tables = [
        _filled("probe/queue", position=str(number), queue_table=queue_table(target.slug))
        for number, (target, exists) in enumerate(zip(targets, queues, strict=True), 1)
        if exists and target.kind is kind
    ]
    needed = bool(tables) or kind is SourceKind.QUEUE
    name = f"probe/{kind}_backlog" if needed else "probe/queue_backlog"
    return _filled(name, queues="\nUNION ALL\n".join(tables) or load("probe/no_queue"))


def _filled(name: str, **parts: str) -> str:
    """Like `statements.fill`, which keeps every text it ever made: these change with the resources of a cluster."""
    return PLACEHOLDER.sub(lambda match: parts[match[1]], load(name))


def _sample(target: Target, row: asyncpg.Record) -> Sample:
    visible, startable = row["visible"], row["startable"]
    # Nothing but messages that cannot start, as far as we look: a worker must come and clear them away.
    hidden = target.kind is SourceKind.FLOW and visible >= target.cap + SPARE and startable == 0
    return Sample(
        startable=1 if hidden else min(startable, target.cap),
        depth=min(visible, target.cap),
        oldest_startable_at=row["oldest_startable_at"],
        delayed=min(row["delayed"], target.cap),
        due_in=row["due_in"],
        in_flight=min(row["in_flight"], target.cap),
        in_flight_cut=row["in_flight_cut"],
        stalled=min(row["stalled"], target.cap),
        longest_timeout=row["longest_timeout"],
        queue_readable=row["queue_readable"],
        queue_per_step=row["queue_per_step"],
        workers=[_worker(worker) for worker in _parsed(row["workers"] or b"[]")],
        option_changes={
            revision: [change for change in map(_option_change, changes) if change is not None]
            for revision, changes in _parsed(row["options"] or b"{}").items()
        },
        drains=_drains(row["drains"] or b"{}"),
    )


def _option_change(reported: Mapping[str, Any]) -> OptionChange | None:
    """An option that differs by now; a report that no worker of ours writes says nothing."""
    change = OptionChange(**reported)
    is_ours = change.option in OPTIONS and type(change.code) in (int, type(None))
    return change if is_ours and change.code != change.database else None


def _parsed(text: bytes) -> Any:
    containers = text.count(b"{") + text.count(b"[")
    values = text.count(b",")
    if containers > max(DENSE_AT_MOST, len(text) // DENSITY) or values > max(DENSE_AT_MOST, len(text) // VALUE_DENSITY):
        raise asyncpg.InterfaceError("the answer is no list of workers")
    return orjson.loads(text)


def _drains(text: bytes) -> Mapping[str, float]:
    if text.count(b",") >= MOST_DRAINS:
        raise asyncpg.InterfaceError("the answer has more drains than pods")
    return _parsed(text)


def _worker(values: Mapping[str, Any]) -> WorkerRow:
    parsed: Mapping[str, Any] = {
        "worker_id": UUID(values["worker_id"]),
        "boot_id": UUID(values["boot_id"]),
        "started_at": datetime.fromisoformat(values["started_at"]),
        "beat": datetime.fromisoformat(values["beat"]),
    }
    return WorkerRow(**{**values, **parsed})
