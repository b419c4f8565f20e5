"""The heartbeat with a port of its own making, in real time but short of it."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from testkit.support.waiting import until
from tests.unit.runtime.conftest import NOW, ScriptedSource, make_peer, make_task

from flowworker.database.flow_results import Fence
from flowworker.database.heartbeat import SAMPLE, Beat, Crew, Holder, Look, OwnRow, Report
from flowworker.database.queue_jobs import JobFence
from flowworker.database.records import Peer, SourceKind
from flowworker.errors import DatabaseUnavailableError, UsageError
from flowworker.runtime.heartbeat import liveness
from flowworker.runtime.heartbeat import thread as heartbeat_module
from flowworker.runtime.heartbeat.loop_watch import Blockage
from flowworker.runtime.heartbeat.thread import BeatResult, HeartbeatThread
from flowworker.runtime.held_tasks import HeldTask


class FakePort:
    """Says that all are well, unless it is to fail."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.asked: list[float] = []
        self.beats: list[float] = []
        self.stopped: list[UUID] = []
        self.down = False
        self.channels: Mapping[str, Callable[[], None]] = {}
        self.looks: list[Look] = []
        self.beat_raises: BaseException | None = None
        self.holder: Holder | None = None
        self.crew = Crew()
        self.marked: list[Peer] = []
        self.extended: list[list[int]] = []
        self.lost: Sequence[int] = ()
        self.hanging: asyncio.Event | None = None
        self.members_are_in = False

    async def register(self, reports: Sequence[Report]) -> Beat:
        return self._answer(reports)

    async def beat(self, reports: Sequence[Report], look: Look) -> Beat:
        self.asked.append(time.monotonic())
        self.looks.append(look)
        if self.beat_raises is not None:
            error, self.beat_raises = self.beat_raises, None
            raise error
        answer = self._answer(reports)
        self.beats.append(time.monotonic())
        return answer

    def _answer(self, reports: Sequence[Report]) -> Beat:
        self.threads.add(threading.current_thread().name)
        if self.down:
            raise DatabaseUnavailableError("down")
        own = {
            report.worker_id: OwnRow(state=report.state, deprecated=False, drain=None, holder=self.holder)
            for report in reports
        }
        crews = {(report.kind, report.slug): self.crew for report in reports}
        return Beat(own=own, crews=crews, at=datetime.now(UTC), server=NOW)

    async def mark_lost(self, slug: str, peer: Peer) -> None:
        self.marked.append(peer)
        self.holder = None

    async def mark_stopped(self, last: Sequence[Report]) -> None:
        self.stopped.extend(report.worker_id for report in last)

    async def prune(self) -> None:
        await self._hang()

    async def extend_jobs(self, jobs: Sequence[tuple[str, JobFence]]) -> Sequence[int]:
        raise AssertionError("no queue is served")

    async def lost_fences(self, fences: Sequence[Fence]) -> Sequence[int]:
        await self._hang()
        self.extended.append([fence.task_index for fence in fences])
        return self.lost

    async def prolong(self, queue_name: str, msg_ids: Sequence[int], *, seconds: float) -> Mapping[int, datetime]:
        return {}

    async def _hang(self) -> None:
        if self.hanging is not None:
            await self.hanging.wait()

    async def listen(self, channels: Mapping[str, Callable[[], None]], on_lost: Callable[[], None]) -> bool:
        if self.members_are_in:
            await self._hang()
        self.channels = channels
        return False

    async def close(self) -> None: ...


class FakeMember:
    """A worker that remembers what was reported to it."""

    def __init__(self, channel: str | None = None) -> None:
        self.worker_id = UUID(int=5)
        self.source: Any = ScriptedSource()
        self.channel = channel
        self.held_tasks: list[HeldTask] = []
        self.results: list[BeatResult] = []
        self.lost: list[HeldTask] = []
        self.inserts = 0
        self.blockages: list[Blockage] = []

    def report(self) -> Report:
        return Report(
            worker_id=self.worker_id, boot_id=UUID(int=1), kind=SourceKind.FLOW, slug="flow", queue_name="flow",
            worker_name="tester", version="0", state="running", in_flight=0, slots=1,
        )  # fmt: skip

    def owned(self) -> Sequence[HeldTask]:
        return self.held_tasks

    def on_beat(self, result: BeatResult) -> None:
        self.results.append(result)

    def on_lost_leases(self, held_tasks: Sequence[HeldTask]) -> None:
        self.lost.extend(held_tasks)

    def on_insert(self) -> None:
        self.inserts += 1

    def on_trial(self) -> None: ...

    def on_listening(self) -> None: ...

    def on_blocked(self, blockage: Blockage) -> None:
        self.blockages.append(blockage)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> FakePort:
    monkeypatch.setattr(heartbeat_module, "BEAT_INTERVAL", 0.05)
    return FakePort()


def make_heartbeat(port: FakePort) -> HeartbeatThread:
    return HeartbeatThread(lambda: port, boot_id=UUID(int=1))


async def test_it_beats_in_a_thread_of_its_own_until_it_is_stopped(port: FakePort) -> None:
    heartbeat, member = make_heartbeat(port), FakeMember()
    await heartbeat.stop()
    await heartbeat.start()
    await heartbeat.attach(member)
    await until(lambda: len(port.beats) > 4, "five heartbeats")
    assert heartbeat.alive
    assert port.threads == {"flowworker-pulse"}
    await heartbeat.detach(member, mark_stopped=True)
    assert port.stopped == [member.worker_id]
    await heartbeat.stop()
    await heartbeat.stop()
    assert not heartbeat.alive


async def test_a_blocked_main_loop_delays_no_beat_and_is_found(port: FakePort) -> None:
    heartbeat, member = make_heartbeat(port), FakeMember()
    await heartbeat.start()
    await heartbeat.attach(member)
    began, before = time.monotonic(), len(port.beats)
    deadline = began + 20
    while len(port.beats) - before < 10 or not member.blockages:
        time.sleep(0.05)  # noqa: ASYNC251 - that is the fault under test
        assert time.monotonic() < deadline, "the heartbeat stands still with the loop"
    assert 1.0 < member.blockages[0].blocked_for < time.monotonic() - began
    assert "test_a_blocked_main_loop" in member.blockages[0].stack
    assert member.blockages[0].task is asyncio.current_task()
    await heartbeat.stop()


async def test_a_failed_beat_is_tried_again_and_never_ends_the_heartbeat(port: FakePort) -> None:
    heartbeat, member = make_heartbeat(port), FakeMember()
    await heartbeat.start()
    await heartbeat.attach(member)
    port.down = True
    await until(lambda: heartbeat.beat_age > 0.3, "heartbeats fail")
    port.down = False
    await until(lambda: heartbeat.beat_age < 0.1, "heartbeats succeed again")
    await heartbeat.stop()


async def test_old_leases_are_extended_and_lost_ones_reported(port: FakePort) -> None:
    heartbeat, member = make_heartbeat(port), FakeMember()
    old, young = (
        HeldTask(task=make_task(n, task_index=n), claimed_at=time.monotonic() - age) for n, age in ((1, 60), (2, 0))
    )
    member.held_tasks = [old, young]
    port.lost = [0]
    await heartbeat.start()
    await heartbeat.attach(member)
    await until(lambda: member.lost, "the lost lease is reported")
    assert port.extended[0] == [1]
    assert member.lost[0] is old
    await heartbeat.stop()


async def test_whatever_else_hangs_the_heart_beats_on(port: FakePort) -> None:
    heartbeat, member = make_heartbeat(port), FakeMember(channel="pgmq.q_flow.INSERT")
    member.held_tasks = [HeldTask(task=make_task(1), claimed_at=time.monotonic() - 60)]
    await heartbeat.start()
    await heartbeat.attach(member)
    port.members_are_in = True
    port.hanging = asyncio.Event()  # nothing sets it: extending, listening and pruning do not return
    begun = len(port.beats)
    await until(lambda: len(port.beats) > begun + 10, "ten more heartbeats")
    await heartbeat.stop()


@pytest.mark.parametrize("error", [ValueError("odd"), asyncio.CancelledError(), DatabaseUnavailableError("gone")])
async def test_whatever_ends_a_beat_the_next_one_comes(port: FakePort, error: BaseException) -> None:
    heartbeat, member = make_heartbeat(port), FakeMember()
    await heartbeat.start()
    await heartbeat.attach(member)
    port.beat_raises = error
    await until(lambda: port.beat_raises is None, "the heartbeat has failed")
    begun = len(port.beats)
    await until(lambda: len(port.beats) > begun + 2, "more heartbeats")
    assert heartbeat.alive
    await heartbeat.stop()


async def test_a_thread_that_ends_by_an_error_is_not_alive() -> None:
    def no_port() -> FakePort:
        raise ValueError("no port")

    heartbeat = HeartbeatThread(no_port, boot_id=UUID(int=1))
    with pytest.raises(ValueError, match="no port"):
        await heartbeat.start()
    await until(lambda: not heartbeat.alive, "the thread has ended")
    await heartbeat.stop()


async def test_an_end_of_a_peer_is_reported_once(port: FakePort) -> None:
    heartbeat, member = make_heartbeat(port), FakeMember()
    await heartbeat.start()
    await heartbeat.attach(member)
    await until(lambda: len(member.results) > 2, "more heartbeats")
    assert not any(result.departed for result in member.results)
    port.crew = Crew(last_end=NOW - timedelta(seconds=1))
    await until(lambda: len(port.looks) > 4, "more heartbeats")
    assert not any(result.departed for result in member.results)  # others look after what it left
    port.crew = Crew(last_end=NOW, saw_end=True)
    await until(lambda: any(result.departed for result in member.results), "the end is reported")
    begun = len(member.results)
    await until(lambda: len(member.results) > begun + 2, "more heartbeats")
    assert sum(result.departed for result in member.results) == 1
    await heartbeat.stop()


async def test_after_a_look_at_mostly_dead_peers_the_next_one_is_wide(
    port: FakePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "DEATH_AFTER", 0.3)
    monkeypatch.setattr(liveness, "QUIET_AFTER", 0.2)
    heartbeat, member = make_heartbeat(port), FakeMember()
    await heartbeat.start()
    await heartbeat.attach(member)
    await until(lambda: len(port.beats) > 1, "a heartbeat")
    silent = [make_peer(100 + number, 0) for number in range(SAMPLE)]
    port.crew = Crew(silent=silent, looked_at=SAMPLE)
    await until(lambda: port.looks[-1].sample > SAMPLE, "it looks at more peers")
    port.crew = Crew()
    await until(lambda: port.looks[-1].sample == SAMPLE, "it looks at fewer peers again")
    assert any(result.dead == silent for result in member.results)
    await heartbeat.stop()


async def test_the_next_heartbeat_comes_as_soon_as_a_silent_peer_can_be_dead(
    port: FakePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    interval, death = 0.5, 1.6
    monkeypatch.setattr(heartbeat_module, "BEAT_INTERVAL", interval)
    monkeypatch.setattr(liveness, "DEATH_AFTER", death)
    monkeypatch.setattr(liveness, "QUIET_AFTER", 0.6)
    heartbeat, member = make_heartbeat(port), FakeMember()
    await heartbeat.start()
    await heartbeat.attach(member)
    async with asyncio.timeout(60):
        while not any(later - earlier < 0.7 * interval for earlier, later in pairwise(port.asked)):
            peer = replace(make_peer(100, 0), beat=datetime.now(UTC))
            port.crew = Crew(silent=[peer], looked_at=1)
            await until(lambda: any(result.dead == [peer] for result in member.results), "the peer is dead")  # noqa: B023
    await heartbeat.stop()


async def test_an_id_of_a_living_process_is_refused(port: FakePort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_module, "CONTEST_INTERVAL", 0.05)
    heartbeat = make_heartbeat(port)
    await heartbeat.start()
    port.holder = Holder(boot_id=UUID(int=7), beat=NOW)
    attaching = asyncio.create_task(heartbeat.attach(FakeMember()))
    await until(lambda: port.threads, "the thread has asked for the row")
    port.holder = Holder(boot_id=UUID(int=7), beat=NOW + timedelta(seconds=3))
    with pytest.raises(UsageError, match="belongs to a process that is alive"):
        await attaching
    await heartbeat.stop()


async def test_an_id_of_a_silent_process_is_taken_over(port: FakePort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_module, "CONTEST_INTERVAL", 0.05)
    monkeypatch.setattr(heartbeat_module, "DEATH_AFTER", 0.2)
    heartbeat, member = make_heartbeat(port), FakeMember()
    await heartbeat.start()
    port.holder = Holder(boot_id=UUID(int=7), beat=NOW)
    await heartbeat.attach(member)
    assert [(peer.worker_id, peer.beat) for peer in port.marked] == [(member.worker_id, NOW)]
    await heartbeat.stop()


async def test_an_announcement_reaches_who_listens_on_its_channel(port: FakePort) -> None:
    heartbeat, member = make_heartbeat(port), FakeMember(channel="pgmq.q_flow.INSERT")
    await heartbeat.start()
    await heartbeat.attach(member)
    port.channels["pgmq.q_flow.INSERT"]()
    assert member.inserts == 1
    assert heartbeat.trial_channel in port.channels
    await heartbeat.stop()


async def test_a_worker_that_cannot_register_learns_why(port: FakePort) -> None:
    heartbeat = make_heartbeat(port)
    await heartbeat.start()
    port.down = True
    with pytest.raises(DatabaseUnavailableError):
        await heartbeat.attach(FakeMember())
    await heartbeat.stop()
