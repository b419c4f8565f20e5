"""A peer whose row was locked gets the time for a heartbeat once the lock is gone, and no more than that."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from tests.conftest import Database
from tests.integration.sources.world import World

from flowworker.database.connection import Connection
from flowworker.database.lost_peers import GRACE_AFTER_LOCK, LostPeers
from flowworker.database.records import Peer


@dataclass
class Observer:
    """A worker that looks at silent peers, with a clock of its own."""

    connection: Connection
    now: float = 1000.0
    peers: LostPeers = field(init=False)

    def __post_init__(self) -> None:
        self.peers = LostPeers(clock=lambda: self.now)

    async def mark(self, *dead: Peer, after: float = 0.0) -> list[UUID]:
        """The workers that are marked lost after so many more seconds."""
        self.now += after
        return list(await self.peers.mark(self.connection, "one_step", dead))


@pytest.fixture
async def observer(database: Database) -> AsyncIterator[Observer]:
    connection = await database.connect_as_worker()
    yield Observer(connection)
    await connection.close()


@asynccontextmanager
async def locked(database: Database, worker_id: UUID) -> AsyncGenerator[None]:
    """Another program has the row of a worker."""
    connection = await database.connect()
    async with connection.transaction():
        await connection.execute("SELECT FROM flowworker.workers WHERE worker_id = $1 FOR NO KEY UPDATE", worker_id)
        yield
    await connection.close()


async def silent(world: World) -> Peer:
    worker_id = uuid4()
    await world.register(worker_id, slug="one_step")
    return await world.peer(worker_id)


async def test_a_silent_peer_whose_row_is_free_is_lost_at_once(world: World, observer: Observer) -> None:
    peer = await silent(world)
    assert await observer.mark(peer) == [peer.worker_id]


async def test_a_peer_is_not_lost_in_the_moment_after_the_lock_of_its_row(
    world: World, database: Database, observer: Observer
) -> None:
    peer, other = await silent(world), await silent(world)
    async with locked(database, peer.worker_id):
        assert await observer.mark(peer, other) == [other.worker_id]
        assert await observer.mark(peer, after=60.0) == []
    assert await observer.mark(peer, after=60.0) == []
    assert await observer.mark(peer, after=GRACE_AFTER_LOCK - 0.1) == []
    assert await observer.mark(peer, after=0.2) == [peer.worker_id]


async def test_a_heartbeat_after_the_lock_saves_the_worker(
    world: World, database: Database, observer: Observer
) -> None:
    peer = await silent(world)
    async with locked(database, peer.worker_id):
        await observer.mark(peer)
    await observer.mark(peer)
    await world.beat(peer.worker_id, slug="one_step")
    assert await observer.mark(peer, after=60.0) == []
    later = await world.peer(peer.worker_id)
    assert await observer.mark(later) == [peer.worker_id]  # another silence, which no lock has caused


async def test_a_row_that_is_locked_again_is_waited_for_again(
    world: World, database: Database, observer: Observer
) -> None:
    peer = await silent(world)
    for _ in range(2):
        async with locked(database, peer.worker_id):
            await observer.mark(peer)
        assert await observer.mark(peer, after=60.0) == []
    assert await observer.mark(peer, after=GRACE_AFTER_LOCK) == [peer.worker_id]


async def test_while_another_observer_acts_nothing_is_learned(
    world: World, database: Database, observer: Observer
) -> None:
    peer = await silent(world)
    other = await database.connect()
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('flowworker.lost:one_step', 0))")
        assert await observer.mark(peer) == []
    assert await observer.mark(peer) == [peer.worker_id]
    await other.close()
