"""What the heartbeat needs of the database: a port, so that its timing can be tested without one."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

import asyncpg

from flowworker.database import flow_tasks, heartbeat, queue_jobs
from flowworker.database.capabilities import Capabilities, detect
from flowworker.database.connection import Connection
from flowworker.database.flow_results import Fence
from flowworker.database.heartbeat import HEALTH_COLUMNS, Beat, Look, Report
from flowworker.database.link import Link
from flowworker.database.queue_jobs import JobFence
from flowworker.database.records import Peer
from flowworker.database.statements import load
from flowworker.database.stranded import mark_lost
from flowworker.runtime.heartbeat.connection_pair import ConnectionPair
from flowworker.runtime.heartbeat.extender import Leases
from flowworker.runtime.heartbeat.liveness_socket import is_gone

T = TypeVar("T")


class HeartbeatPort(Leases, Protocol):
    """Two connections, one for the heartbeat alone. Methods raise DatabaseUnavailableError when neither works."""

    async def register(self, reports: Sequence[Report]) -> Beat: ...

    async def beat(self, reports: Sequence[Report], look: Look) -> Beat: ...

    async def mark_lost(self, slug: str, peer: Peer) -> None:
        """Mark a worker lost whose heartbeat is still this one."""
        ...

    async def mark_stopped(self, last: Sequence[Report]) -> None: ...

    async def prune(self) -> None:
        """Forget workers and drains that ended long ago."""
        ...

    async def listen(self, channels: Mapping[str, Callable[[], None]], on_lost: Callable[[], None]) -> bool:
        """Listen on these channels, and see that the connection works.

        Returns:
            True on a new connection, before which notifications may have been missed.
        """
        ...

    async def close(self) -> None: ...


class DatabaseHeartbeat:
    """The real one."""

    def __init__(self, *, beat: Link, other: Link, lends: bool) -> None:
        """Use links that belong to the heartbeat's event loop.

        Args:
            beat: for the heartbeat.
            other: for everything else.
            lends: whether one may stand in for the other while that is down; see `ConnectionPair`.
        """
        self._beat = beat
        self._link = other
        self._pair = ConnectionPair(lends=lends)
        self._features: Capabilities | None = None
        self._connection: Connection | None = None
        self._listening: set[str] = set()
        self._channels: Mapping[str, Callable[[], None]] = {}
        self._on_lost: Callable[[], None] = _nothing

    async def register(self, reports: Sequence[Report]) -> Beat:
        self._features = features = await self._other(detect)
        health = self._has_health
        return await self._other(
            lambda connection: heartbeat.register(
                connection, reports, health=health, stamps=features.pgflow_version, tracks=features.can_track,
                is_gone=is_gone,
            )
        )  # fmt: skip

    async def beat(self, reports: Sequence[Report], look: Look) -> Beat:
        health = self._has_health
        stamps = self._features is not None and self._features.pgflow_version
        return await self._pair.run(
            self._beat,
            self._link,
            lambda connection: heartbeat.beat(connection, reports, look=look, health=health, stamps=stamps),
            # Peers count the seconds: a heartbeat that was cancelled, for whatever reason, waits for no retry.
            repeated_after=(asyncpg.QueryCanceledError,),
        )

    async def mark_lost(self, slug: str, peer: Peer) -> None:
        await self._other(lambda connection: mark_lost(connection, slug, [peer]))

    async def mark_stopped(self, last: Sequence[Report]) -> None:
        await self._other(lambda connection: _mark_stopped(connection, last))

    async def prune(self) -> None:
        await self._link.run(heartbeat.prune)

    async def extend_jobs(self, jobs: Sequence[tuple[str, JobFence]]) -> Sequence[int]:
        return await self._other(lambda connection: queue_jobs.extend_all(connection, jobs))

    async def lost_fences(self, fences: Sequence[Fence]) -> Sequence[int]:
        return await self._other(lambda connection: flow_tasks.lost_fences(connection, fences))

    async def prolong(self, queue_name: str, msg_ids: Sequence[int], *, seconds: float) -> Mapping[int, datetime]:
        return await self._other(
            lambda connection: flow_tasks.prolong(connection, queue_name, msg_ids, seconds=seconds)
        )

    async def listen(self, channels: Mapping[str, Callable[[], None]], on_lost: Callable[[], None]) -> bool:
        self._channels = channels
        self._on_lost = on_lost
        if not channels and not self._listening:
            return False
        return await self._link.run(self._listen)

    async def close(self) -> None:
        self._on_lost = _nothing
        await self._pair.close()
        await self._beat.close()
        await self._link.close()

    async def _other(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._pair.run(self._link, self._beat, work)

    @property
    def _has_health(self) -> bool:
        return self._features is not None and self._features.own_columns >= HEALTH_COLUMNS

    async def _listen(self, connection: Connection) -> bool:
        renewed = connection is not self._connection
        if renewed:
            self._connection = connection
            self._listening.clear()
            connection.add_termination_listener(self._lost)
        else:
            await connection.execute(load("workers/ping"))
        for channel in set(self._channels) - self._listening:
            await connection.add_listener(channel, self._notified)
            self._listening.add(channel)
        for channel in self._listening - set(self._channels):
            await connection.remove_listener(channel, self._notified)
            self._listening.discard(channel)
        return renewed

    def _notified(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if (callback := self._channels.get(channel)) is not None:
            callback()

    def _lost(self, connection: object) -> None:
        if connection is self._connection:
            self._connection = None
            self._listening.clear()
            self._on_lost()


async def _mark_stopped(connection: Connection, last: Sequence[Report]) -> None:
    await heartbeat.mark_stopped(connection, last, await detect(connection))


def _nothing() -> None:
    return
