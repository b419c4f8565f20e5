"""The election in virtual time: candidates with bad clocks, a server that is slow, fails, and loses its answers."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import AlreadyExists, Conflict, NotFound, Refused, Unavailable
from flowworker_operator.cluster.leadership import UNABLE_FOR, Leadership
from flowworker_operator.cluster.lease import Timing
from flowworker_operator.cluster.resources import Object, Resource

pytestmark = pytest.mark.looptime

EPOCH = 1_767_268_800.0
CANDIDATES = 3
LOOK_EVERY = 0.2


@dataclass(slots=True)
class Server:
    """One Lease with optimistic locking."""

    lease: Object | None = None
    version: int = 0

    def store(self, lease: Object) -> Object:
        self.version += 1
        self.lease = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(self.version)}}
        return self.lease


@dataclass(slots=True)
class Line:
    """What one candidate has of a cluster."""

    server: Server
    trouble: Callable[[], float] = lambda: 0.0
    """Seconds that a request takes to the server, and its answer back; may raise."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        await asyncio.sleep(self.trouble())
        found = self.server.lease
        await asyncio.sleep(self.trouble())
        return found

    async def create(self, resource: Resource, manifest: Object) -> Object:
        await asyncio.sleep(self.trouble())
        if self.server.lease is not None:
            raise AlreadyExists(409, "AlreadyExists", "the lease exists")
        made = self.server.store(manifest)
        await asyncio.sleep(self.trouble())
        return made

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any], *, resource_version: str
    ) -> Object:
        await asyncio.sleep(self.trouble())
        lease = self.server.lease
        if lease is None or resource_version != str(self.server.version):
            raise Conflict(409, "Conflict", "the lease has changed")
        made = self.server.store({**lease, "spec": {**lease["spec"], **patch["spec"]}})
        await asyncio.sleep(self.trouble())
        return made


def healthy() -> float:
    return 0.0


def unreachable() -> float:
    raise Unavailable(0, "Unreachable", "no route")


def hanging() -> float:
    return 1000.0


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock that is neither right nor as fast as others."""

    ahead: float = 0.0
    speed: float = 1.0

    def __call__(self) -> float:
        return self.ahead + asyncio.get_running_loop().time() * self.speed

    def wall(self) -> datetime:
        return datetime.fromtimestamp(EPOCH + self(), UTC)


def candidate(line: Line, name: str, clock: Clock | None = None, able: Callable[[], bool] = lambda: True) -> Leadership:
    clock = clock or Clock()
    return Leadership(
        cast("Cluster", line), namespace="shop", name="operator", identity=name, timing=Timing(),
        clock=clock, wall=clock.wall, incarnation="1", able=able,
    )  # fmt: skip


@asynccontextmanager
async def running(*candidates: Leadership) -> AsyncGenerator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(leadership.run()) for leadership in candidates]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_one_of_two_leads() -> None:
    line = Line(Server())
    first, second = candidate(line, "a"), candidate(line, "b")
    async with running(first, second):
        await first.wait_held()
        await asyncio.sleep(60)

        assert (first.held, second.held) == (True, False)
        assert first.holder == second.holder == first.identity == "a_1"


async def test_every_waiter_is_woken() -> None:
    line = Line(Server())
    first, second = candidate(line, "a"), candidate(line, "b")
    async with running(first) as (task,), running(second):
        await first.wait_held()
        waiting = [asyncio.create_task(second.wait_held()) for _ in range(2)]
        await asyncio.sleep(30)
        assert not any(one.done() for one in waiting)
        await stopped(task)
        await asyncio.wait_for(asyncio.gather(*waiting), 3)


async def test_a_leader_that_stops_hands_over_within_a_retry() -> None:
    line, loop = Line(Server()), asyncio.get_running_loop()
    first, second = candidate(line, "a"), candidate(line, "b")
    async with running(first, second) as (task, _):
        await first.wait_held()
        await asyncio.sleep(7)
        left = loop.time()
        await stopped(task)
        assert not first.held
        await second.wait_held()

        assert loop.time() - left <= 2
        assert second.transitions == 1


async def test_a_leader_that_vanishes_is_followed_when_its_lease_has_run_out() -> None:
    server, loop = Server(), asyncio.get_running_loop()
    line = Line(server)
    first, second = candidate(line, "a"), candidate(Line(server), "b")
    async with running(first, second):
        await first.wait_held()
        await asyncio.sleep(7)
        line.trouble = unreachable
        cut = loop.time()
        await second.wait_held()

        assert 13 <= loop.time() - cut <= 17
        assert not first.held


async def test_leading_ends_with_the_deadline_when_no_renewal_succeeds() -> None:
    line = Line(Server())
    leadership = candidate(line, "a")
    async with running(leadership):
        await leadership.wait_held()
        line.trouble = unreachable
        await asyncio.sleep(9.9)
        assert leadership.held
        await asyncio.sleep(0.2)
        assert not leadership.held
        line.trouble = healthy
        await asyncio.wait_for(leadership.wait_held(), 3)

        assert leadership.transitions == 0


async def test_time_is_counted_from_the_beginning_of_a_renewal() -> None:
    line = Line(Server(), trouble=lambda: 1.0)
    leadership = candidate(line, "a")
    async with running(leadership):
        await leadership.wait_held()  # a look and a write, one second to the server and back for each
        line.trouble = hanging
        await asyncio.sleep(5.9)
        assert leadership.held
        await asyncio.sleep(0.2)
        assert not leadership.held


async def test_a_server_that_hangs_gets_a_second_chance_before_the_deadline() -> None:
    line = Line(Server())
    leadership = candidate(line, "a")
    async with running(leadership):
        await leadership.wait_held()
        line.trouble = hanging
        await asyncio.sleep(6)
        line.trouble = healthy
        for _ in range(50):
            await asyncio.sleep(LOOK_EVERY)
            assert leadership.held


async def test_a_deleted_lease_does_not_make_a_second_leader() -> None:
    server = Server()
    first, second = candidate(Line(server), "a"), candidate(Line(server), "b")
    async with running(first):
        await first.wait_held()
        async with running(second):
            await asyncio.sleep(3)
            for _ in range(100):
                server.lease = None
                for _ in range(10):
                    await asyncio.sleep(0.7)
                    assert (first.held, second.held) == (True, False)


async def test_a_leader_that_finds_the_lease_deleted_counts_a_transition() -> None:
    server = Server()
    leadership = candidate(Line(server), "a")
    async with running(leadership):
        await leadership.wait_held()
        server.lease = None
        await asyncio.sleep(3)

        assert leadership.held
        assert leadership.transitions == 1


async def test_a_leader_that_sees_another_holder_steps_back_at_once() -> None:
    server = Server()
    leadership = candidate(Line(server), "a")
    async with running(leadership):
        await leadership.wait_held()
        assert server.lease is not None
        server.store({**server.lease, "spec": {**server.lease["spec"], "holderIdentity": "somebody"}})
        await asyncio.sleep(2.1)

        assert not leadership.held
        assert leadership.holder == "somebody"


async def test_a_leader_that_can_do_nothing_hands_over_and_takes_the_lease_no_more() -> None:
    line, rights = Line(Server()), {"a": True, "b": True}
    first = candidate(line, "a", able=lambda: rights["a"])
    second = candidate(line, "b", able=lambda: rights["b"])
    async with running(first, second):
        await first.wait_held()
        rights["a"] = False
        await asyncio.sleep(UNABLE_FOR / 2)
        assert first.held, "what passes at once is no reason to change hands"
        await asyncio.sleep(UNABLE_FOR)
        assert (first.held, second.held) == (False, True)
        rights["b"] = False
        await asyncio.sleep(60)
        assert (first.held, second.held) == (False, False)
        rights["a"] = True
        await first.wait_held()


async def test_two_processes_of_one_name_are_two_candidates() -> None:
    line = Line(Server())
    first = candidate(line, "a")
    second = Leadership(cast("Cluster", line), namespace="shop", name="operator", identity="a", clock=Clock())
    async with running(first):
        await first.wait_held()
        async with running(second):
            await asyncio.sleep(60)

            assert (first.held, second.held) == (True, False)


async def test_a_stop_while_the_server_hangs_does_not_take_for_ever() -> None:
    line, loop = Line(Server()), asyncio.get_running_loop()
    leadership = candidate(line, "a")
    async with running(leadership) as (task,):
        await leadership.wait_held()
        line.trouble = hanging
        began = loop.time()
        await stopped(task)

        assert loop.time() - began <= 3


async def test_a_missing_namespace_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def no_namespace() -> float:
        raise NotFound(404, "NotFound", 'namespaces "shop" not found')

    async with running(candidate(Line(Server(), trouble=no_namespace), "a")):
        await asyncio.sleep(1)

    assert 'namespaces "shop" not found' in caplog.text


async def test_a_missing_right_is_logged_once_and_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    def forbidden() -> float:
        raise Refused(403, "Forbidden", "leases is forbidden")

    line = Line(Server(), trouble=forbidden)
    leadership = candidate(line, "a")
    async with running(leadership):
        await asyncio.sleep(60)
        line.trouble = healthy
        await asyncio.wait_for(leadership.wait_held(), 3)

    assert [message.count("leases is forbidden") for message in caplog.messages if "forbidden" in message] == [1]


@dataclass(slots=True)
class Misfortune:
    """Delays, failures before a write and after it, and the occasional standstill; the same for the same seed."""

    dice: random.Random

    def __call__(self) -> float:
        roll = self.dice.random()
        if roll < 0.1:
            raise Unavailable(0, "Unreachable", "connection reset")
        if roll < 0.13:
            return self.dice.uniform(5, 40)
        return self.dice.uniform(0, 0.5)


async def endure(server: Server, dice: random.Random, seconds: float) -> tuple[int, int]:
    """Let candidates come and go; returns at how many looks one of them led, and how often that was another."""
    alive: dict[Leadership, asyncio.Task[None]] = {}
    led, leaders, names = 0, set[str](), iter(range(1_000_000))
    until = asyncio.get_running_loop().time() + seconds
    try:
        while asyncio.get_running_loop().time() < until:
            if len(alive) < CANDIDATES:
                clock = Clock(ahead=dice.uniform(0, 1e6), speed=dice.uniform(0.9, 1.1))
                fresh = candidate(Line(server, Misfortune(dice)), f"c{next(names)}", clock)
                alive[fresh] = asyncio.create_task(fresh.run())
            if dice.random() < 0.005:
                leaving = dice.choice(list(alive))
                await stopped(alive.pop(leaving))
            await asyncio.sleep(LOOK_EVERY)
            holding = [leadership.identity for leadership in alive if leadership.held]
            assert len(holding) <= 1, holding
            led += len(holding)
            leaders.update(holding)
    finally:
        for task in alive.values():
            await stopped(task)
    return led, len(leaders)


@pytest.mark.parametrize("seed", range(6))
async def test_two_never_lead_at_once_whatever_happens(seed: int) -> None:
    led, leaders = await endure(Server(), random.Random(seed), seconds=300)

    assert leaders >= 2
    assert led * LOOK_EVERY > 100
