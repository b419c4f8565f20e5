"""What the pulse needs of the database: a port, so that its timing can be tested without one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from flowworker.database import heartbeat
from flowworker.database.capabilities import detect
from flowworker.database.connection import Connection
from flowworker.database.heartbeat import Beat, Report
from flowworker.database.link import Link


class Heart(Protocol):
    """One connection of its own. Every method raises DatabaseUnavailableError when it cannot be used now."""

    async def register(self, reports: Sequence[Report]) -> Beat: ...

    async def beat(self, reports: Sequence[Report]) -> Beat: ...

    async def mark_stopped(self, worker_ids: Collection[UUID]) -> None: ...

    async def prune(self) -> None:
        """Forget workers and drains that ended long ago."""
        ...

    async def listen(self, channels: Mapping[str, Callable[[], None]], on_lost: Callable[[], None]) -> bool:
        """Listen on these channels; True on a new connection, before which notifications may have been missed."""
        ...

    async def close(self) -> None: ...


class DatabaseHeart:
    """The real one."""

    def __init__(self, link: Link) -> None:
        """Use this link, which belongs to the pulse's event loop."""
        self._link = link
        self._connection: Connection | None = None
        self._listening: set[str] = set()
        self._channels: Mapping[str, Callable[[], None]] = {}
        self._on_lost: Callable[[], None] = _nothing

    async def register(self, reports: Sequence[Report]) -> Beat:
        return await self._link.run(lambda connection: heartbeat.register(connection, reports))

    async def beat(self, reports: Sequence[Report]) -> Beat:
        return await self._link.run(lambda connection: heartbeat.beat(connection, reports))

    async def mark_stopped(self, worker_ids: Collection[UUID]) -> None:
        await self._link.run(lambda connection: _mark_stopped(connection, worker_ids))

    async def prune(self) -> None:
        await self._link.run(heartbeat.prune)

    async def listen(self, channels: Mapping[str, Callable[[], None]], on_lost: Callable[[], None]) -> bool:
        self._channels = channels
        self._on_lost = on_lost
        if not channels and not self._listening:
            return False
        return await self._link.run(self._listen)

    async def close(self) -> None:
        self._on_lost = _nothing
        await self._link.close()

    async def _listen(self, connection: Connection) -> bool:
        renewed = connection is not self._connection
        if renewed:
            self._connection = connection
            self._listening.clear()
            connection.add_termination_listener(self._lost)
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


async def _mark_stopped(connection: Connection, worker_ids: Collection[UUID]) -> None:
    await heartbeat.mark_stopped(connection, worker_ids, await detect(connection))


def _nothing() -> None:
    return
