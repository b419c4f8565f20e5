"""The heartbeat with a real database behind bad networks and locks: its rhythm, its judgement, its leases."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from testkit.support.proxy import Proxy
from testkit.support.waiting import until
from tests.conftest import Database
from tests.integration.runtime.conftest import World
from tests.integration.sources.world import report

from flowworker.database.connection import Connection
from flowworker.database.heartbeat import Look, Report, beat, register
from flowworker.database.records import Peer, SourceKind
from flowworker.definition.queue import Queue
from flowworker.runtime.heartbeat.loop_watch import Blockage
from flowworker.runtime.heartbeat.thread import BeatResult
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.host import Host

BEHIND = 4.5
"""Most seconds between two heartbeats, on a machine that has other work as well; they are due every 3 s."""

FOUND_WITHIN = 20.0


@dataclass
class Listed:
    """What a member serves."""

    slug: str
    kind: SourceKind = SourceKind.QUEUE

    @property
    def queue_name(self) -> str:
        return self.slug


@dataclass
class Member:
    """A worker that only beats."""

    boot_id: UUID
    slug: str
    channel: str | None = None
    held_tasks: Sequence[HeldTask] = ()
    worker_id: UUID = field(default_factory=uuid4)
    beats: list[float] = field(default_factory=list[float])
    dead: list[Peer] = field(default_factory=list[Peer])

    def __post_init__(self) -> None:
        self.source: Any = Listed(self.slug)

    def report(self) -> Report:
        return report(self.worker_id, kind=SourceKind.QUEUE, slug=self.slug, boot_id=self.boot_id)

    def owned(self) -> Sequence[HeldTask]:
        return self.held_tasks

    def on_beat(self, result: BeatResult) -> None:
        self.beats.append(time.monotonic())
        self.dead += result.dead

    def on_lost_leases(self, held_tasks: Sequence[HeldTask]) -> None: ...

    def on_insert(self) -> None: ...

    def on_trial(self) -> None: ...

    def on_listening(self) -> None: ...

    def on_blocked(self, blockage: Blockage) -> None: ...


@asynccontextmanager
async def beating(host: Host, *slugs: str, channel: str | None = None) -> AsyncGenerator[list[Member]]:
    """Members of one process, for as long as it takes."""
    members = [Member(host.boot_id, slug, channel) for slug in slugs]
    await host.enter()
    try:
        await asyncio.gather(*(host.heartbeat.attach(member) for member in members))
        yield members
    finally:
        for member in members:
            await host.heartbeat.detach(member, mark_stopped=False)
        await host.leave()


def longest_pause(member: Member) -> float:
    return max(later - earlier for earlier, later in pairwise(member.beats))


@pytest.mark.parametrize("latency", [0.1, 1.0])
async def test_a_dead_peer_of_25_workloads_is_noticed_whatever_the_latency(world: World, latency: float) -> None:
    ghost = report(uuid4(), kind=SourceKind.QUEUE, slug="q7")
    async with Proxy(world.database.server.port) as proxy:
        host = Host(proxy.dsn(world.database.worker_dsn))
        async with beating(host, *(f"q{number}" for number in range(25)), channel="flowworker.none") as members:
            await register(world.owner, [ghost])
            proxy.latency = latency
            died = time.monotonic()
            await until(lambda: members[7].dead, "the death is noticed", patience=60)
            assert members[7].dead[0].worker_id == ghost.worker_id
            assert time.monotonic() - died < FOUND_WITHIN + 30 * latency
            assert longest_pause(members[7]) < BEHIND + 2 * latency
            assert not any(member.dead for member in members if member is not members[7])


async def test_a_connection_that_only_extends_and_listens_delays_no_beat(world: World) -> None:
    host = Host(world.database.worker_dsn)
    async with beating(host, "q", channel="flowworker.none") as (member,):
        blocker = await world.database.connect()
        async with blocker.transaction():
            await blocker.execute("LOCK flowworker.drains IN ACCESS EXCLUSIVE MODE NOWAIT")
            host.heartbeat._prune_at = 0.0  # pyright: ignore[reportPrivateUsage]
        await until(lambda: len(member.beats) > 4, "more heartbeats", patience=40)
        assert longest_pause(member) < BEHIND
        await blocker.close()


async def test_a_locked_queue_costs_another_queue_of_the_process_no_lease(world: World) -> None:
    locked, other = Queue("locked_a", max_attempts=1, timeout=300), Queue("other_b", max_attempts=1, timeout=300)
    begun: list[str] = []
    release = asyncio.Event()

    for queue in (locked, other):

        @queue.job
        async def hold(name: str) -> str:
            begun.append(name)
            await release.wait()
            return name

    await world.create(locked, other)
    host, rival = Host(world.database.worker_dsn), Host(world.database.worker_dsn)
    async with world.worker(locked, host=host), world.worker(other, host=host):
        await world.send(locked, "a")
        job = await world.send(other, "b")
        await until(lambda: sorted(begun) == ["a", "b"], "both jobs run")
        blocker = await world.database.connect()
        async with world.worker(other, host=rival):
            async with blocker.transaction():
                await blocker.execute("LOCK pgmq.q_locked_a IN ACCESS EXCLUSIVE MODE")
                held = time.monotonic()
                await until(lambda: time.monotonic() - held > 32, "the lock is older than two leases", patience=60)
                assert sorted(begun) == ["a", "b"]
            release.set()
            assert (await world.done(other, job))["attempt"] == 1
            assert begun.count("b") == 1
        await blocker.close()


async def test_a_thousand_dead_are_found_by_the_only_one_alive(world: World) -> None:
    await fill(world.owner, 1000)
    host = Host(world.database.worker_dsn)
    async with beating(host, "crowd") as (member,):
        await until(
            lambda: len({peer.worker_id for peer in member.dead}) == 1000,
            "all dead peers are found",
            patience=FOUND_WITHIN,
        )


async def test_half_a_crowd_that_died_is_found_by_the_other_half_in_two_rounds(
    world: World, database: Database
) -> None:
    await fill(world.owner, 500)
    survivors = [report(uuid4(), kind=SourceKind.QUEUE, slug="crowd") for _ in range(500)]
    connection = await database.connect_as_worker()
    await register(connection, survivors)
    since = await world.owner.fetchval("SELECT clock_timestamp()")
    await beat(connection, survivors)
    found: set[UUID] = set()
    for one in [survivor for _ in range(2) for survivor in survivors]:
        crew = (await beat(connection, [one], look=Look(since=since, after=uuid4()))).crews[SourceKind.QUEUE, "crowd"]
        found |= {peer.worker_id for peer in crew.silent}
    assert len(found - {survivor.worker_id for survivor in survivors}) >= 490  # each look is at random ones
    await connection.close()


async def test_a_frozen_link_of_the_leases_is_replaced_and_listens_again(world: World) -> None:
    host = Host(world.database.worker_dsn)
    async with beating(host, "q", channel="flowworker.none") as (member,):
        superuser = await world.superuser()

        async def listeners() -> list[int]:
            rows = await superuser.fetch(
                "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name = 'flowworker pulse'",
                world.database.name,
            )
            return [row["pid"] for row in rows]

        (before,) = await until(listeners, "the worker listens")
        begun = len(member.beats)
        await superuser.execute("SELECT pg_terminate_backend($1)", before)
        await until(lambda: _other(listeners, before), "it listens on another connection")
        await until(lambda: len(member.beats) > begun + 1, "more heartbeats")
        assert longest_pause(member) < BEHIND
        await superuser.close()


async def _other(listeners: Any, before: int) -> bool:
    found = await listeners()
    return bool(found) and before not in found


async def fill(owner: Connection, number: int) -> None:
    """Workers that are said to run and never beat."""
    await owner.execute(
        """INSERT INTO flowworker.workers (worker_id, boot_id, kind, slug, worker_name, version, state, slots)
           SELECT gen_random_uuid(), gen_random_uuid(), 'queue', 'crowd', 'ghost', '0', 'running', 1
           FROM generate_series(1, $1::integer)""",
        number,
    )
