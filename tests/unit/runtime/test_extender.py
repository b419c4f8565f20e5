"""Leases of many queues and fences of many flows: what is asked together, and what alone when a table is in trouble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.unit.runtime.conftest import NOW, ScriptedSource, make_task

from flowworker.database.flow_results import Fence
from flowworker.database.queue_jobs import JobFence
from flowworker.database.records import SourceKind
from flowworker.errors import DatabaseUnavailableError
from flowworker.runtime.heartbeat.extender import MARGIN, TROUBLE_CAP, Extender
from flowworker.runtime.held_tasks import HeldTask


@dataclass
class Table:
    """Plays the database: some queues are locked."""

    locked: set[str] = field(default_factory=set[str])
    error: Exception = field(default_factory=lambda: asyncpg.LockNotAvailableError("canceling statement"))
    lost: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    asked: list[list[tuple[str, int]]] = field(default_factory=list[list[tuple[str, int]]])
    checked: list[list[int]] = field(default_factory=list[list[int]])
    prolonged: list[tuple[str, list[int]]] = field(default_factory=list[tuple[str, list[int]]])

    async def extend_jobs(self, jobs: Sequence[tuple[str, JobFence]]) -> Sequence[int]:
        names = [(name, fence.msg_id) for name, fence in jobs]
        self.asked.append(names)
        if self.locked & {name for name, _ in names}:
            raise self.error
        return [position for position, one in enumerate(names) if one in self.lost]

    async def lost_fences(self, fences: Sequence[Fence]) -> Sequence[int]:
        self.checked.append([fence.task_index for fence in fences])
        if "pgflow" in self.locked:
            raise self.error
        return [position for position, fence in enumerate(fences) if ("task", fence.task_index) in self.lost]

    async def prolong(self, queue_name: str, msg_ids: Sequence[int], *, seconds: float) -> Mapping[int, datetime]:
        self.prolonged.append((queue_name, list(msg_ids)))
        if queue_name in self.locked:
            raise self.error
        return {msg_id: NOW + timedelta(seconds=seconds) for msg_id in msg_ids}


@dataclass
class Worker:
    """Holds the messages of one queue."""

    name: str
    ids: Sequence[int]
    kind: SourceKind = SourceKind.QUEUE
    visible_at: datetime = NOW
    worker_id: UUID = field(default_factory=uuid4)
    reported: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.source: Any = ScriptedSource(kind=self.kind, slug=self.name, queue_name=self.name)
        self.held_tasks = [
            HeldTask(task=make_task(n, task_index=n, visible_at=self.visible_at), claimed_at=0.0) for n in self.ids
        ]

    def owned(self) -> Sequence[HeldTask]:
        return self.held_tasks

    def on_lost_leases(self, held_tasks: Sequence[HeldTask]) -> None:
        self.reported += [held_task.task.msg_id for held_task in held_tasks]


@dataclass
class Rig:
    table: Table = field(default_factory=Table)
    now: float = 100.0
    server: datetime | None = NOW

    def __post_init__(self) -> None:
        self.extender = Extender(
            leases=self.table, server_now=lambda: self.server, clock=lambda: self.now, randomness=lambda: 1.0
        )


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_one_statement_extends_the_jobs_of_all_queues(rig: Rig) -> None:
    await rig.extender.round([Worker("a", [1, 2]), Worker("b", [1])])
    assert rig.table.asked == [[("a", 1), ("a", 2), ("b", 1)]]


async def test_each_worker_hears_of_its_own_losses_even_where_two_serve_one_queue(rig: Rig) -> None:
    first, second, other = Worker("a", [1, 2]), Worker("a", [3]), Worker("b", [1])
    rig.table.lost = {("a", 2), ("a", 3)}
    await rig.extender.round([first, second, other])
    assert (first.reported, second.reported, other.reported) == ([2], [3], [])


@pytest.mark.parametrize(
    "error", [asyncpg.LockNotAvailableError("lock"), DatabaseUnavailableError("timeout"), ValueError("odd")]
)
async def test_a_locked_queue_costs_no_other_its_leases(rig: Rig, error: Exception) -> None:
    workers = [Worker("a", [1]), Worker("b", [2]), Worker("c", [3])]
    rig.table.locked, rig.table.error = {"a"}, error
    await rig.extender.round(workers)
    assert rig.table.asked[1:] == [[("a", 1)], [("b", 2)], [("c", 3)]]
    rig.table.asked.clear()
    await rig.extender.round(workers)
    assert rig.table.asked == [[("b", 2), ("c", 3)]]  # the one in trouble waits
    rig.table.asked.clear()
    rig.now += TROUBLE_CAP
    await rig.extender.round(workers)
    assert rig.table.asked == [[("b", 2), ("c", 3)], [("a", 1)]]  # and comes last
    rig.table.asked.clear()
    rig.table.locked.clear()
    rig.now += TROUBLE_CAP
    await rig.extender.round(workers)
    await rig.extender.round(workers)
    assert rig.table.asked[-1] == [("a", 1), ("b", 2), ("c", 3)]


async def test_one_statement_checks_the_tasks_of_all_flows(rig: Rig) -> None:
    far = NOW + timedelta(hours=1)
    first = Worker("a", [1, 2], kind=SourceKind.FLOW, visible_at=far)
    second = Worker("b", [3], kind=SourceKind.FLOW, visible_at=far)
    rig.table.lost = {("task", 2)}
    await rig.extender.round([first, second])
    assert rig.table.checked == [[1, 2, 3]]
    assert (first.reported, second.reported) == ([2], [])
    assert rig.table.prolonged == []


async def test_a_message_is_prolonged_only_near_its_end(rig: Rig) -> None:
    worker = Worker("a", [1], kind=SourceKind.FLOW, visible_at=NOW + timedelta(seconds=MARGIN + 5))
    await rig.extender.round([worker])
    assert rig.table.prolonged == []
    rig.server = NOW + timedelta(seconds=6)
    await rig.extender.round([worker])
    assert rig.table.prolonged == [("a", [1])]
    await rig.extender.round([worker])
    assert len(rig.table.prolonged) == 1  # it is known until when it is invisible now


async def test_while_the_databases_clock_is_unknown_every_message_is_prolonged(rig: Rig) -> None:
    rig.server = None
    await rig.extender.round([Worker("a", [1], kind=SourceKind.FLOW, visible_at=NOW + timedelta(hours=1))])
    assert rig.table.prolonged == [("a", [1])]


async def test_a_locked_queue_of_a_flow_stops_no_other(rig: Rig) -> None:
    rig.table.locked = {"a"}
    await rig.extender.round([Worker("a", [1], kind=SourceKind.FLOW), Worker("b", [2], kind=SourceKind.FLOW)])
    assert rig.table.prolonged == [("a", [1]), ("b", [2])]


async def test_jobs_are_extended_though_pgflow_is_locked(rig: Rig) -> None:
    rig.table.locked = {"pgflow", "a"}
    workers = [Worker("a", [1]), Worker("b", [2]), Worker("c", [3], kind=SourceKind.FLOW)]
    with pytest.raises(asyncpg.LockNotAvailableError):
        await rig.extender.round(workers)
    rig.now += TROUBLE_CAP
    rig.table.asked.clear()
    with pytest.raises(asyncpg.LockNotAvailableError):
        await rig.extender.round(workers)
    assert rig.table.asked == [[("b", 2)], [("a", 1)]]


async def test_young_leases_are_left_alone(rig: Rig) -> None:
    worker = Worker("a", [1])
    worker.held_tasks[0].claimed_at = rig.now - 0.9
    await rig.extender.round([worker])
    assert rig.table.asked == []
