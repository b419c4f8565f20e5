"""Hears of new messages on the connection that reads, so that work at an idle queue need not wait for the next tick.

pgmq announces inserts where a client has enabled it, as a worker does whose `signal_strategy` is `notify`. Only queues
are listened to that wait for their first message: later ones change no decision before the next tick. Whatever is lost
on the way (no trigger, a pooler between) costs that tick and nothing else.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flowworker.database.connection import Connection
from flowworker.database.identifiers import insert_channel


@dataclass(slots=True, eq=False)
class Listener:
    """Listens with one connection at a time."""

    heard: Callable[[], None]
    """Called for every announcement."""
    _connection: "Connection | None" = None
    _channels: set[str] = field(default_factory=set[str])

    async def listen(self, connection: Connection, queues: Iterable[str]) -> bool:
        """Listen to these queues and to no others.

        Returns:
            Whether one of them was not listened to before: what was sent to it meanwhile has to be read.

        Raises:
            asyncpg.PostgresError, OSError: the connection is lost.
        """
        if connection is not self._connection:
            self._connection, self._channels = connection, set()
        wanted = {insert_channel(queue) for queue in queues}
        new = wanted - self._channels
        for channel in self._channels - wanted:
            await connection.remove_listener(channel, self._notified)
        for channel in new:
            await connection.add_listener(channel, self._notified)
        self._channels = wanted
        return bool(new)

    def _notified(self, *_: object) -> None:
        self.heard()
