"""How many sessions each worker process has on the server, looked at twice a second."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from tests.chaos.ground import Ground

from flowworker.database.connection import connect

EVERY = 0.5
"""Seconds."""

MOST = 5
"""Sessions of one process, whatever happens, those that it has given up included."""

COUNT = """
    SELECT usename, count(*) AS sessions
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'flowworker %'
    GROUP BY usename
"""
"""A session counts for as long as its backend is there, whether or not its client still knows of it."""


class Sessions:
    """Counts the sessions of workers that have a role of their own."""

    def __init__(self, ground: Ground) -> None:
        """Count nothing yet."""
        self._ground = ground
        self._most: Counter[str] = Counter()

    @property
    def most(self) -> Mapping[str, int]:
        """The most sessions seen at once, by the worker's name."""
        return {self._ground.roles[role]: number for role, number in self._most.items()}

    async def watch(self, closing: asyncio.Event) -> None:
        """Look until it is closed."""
        connection = await connect(self._ground.database.superuser_dsn, application_name="test")
        try:
            while not closing.is_set():
                for row in await connection.fetch(COUNT):
                    self._most[row["usename"]] = max(self._most[row["usename"]], row["sessions"])
                await asyncio.sleep(EVERY)
        finally:
            connection.terminate()


@asynccontextmanager
async def watched(ground: Ground) -> AsyncGenerator[None]:
    """No worker with a role of its own may have too many sessions in this block."""
    sessions, closing = Sessions(ground), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(sessions.watch(closing))
        try:
            yield
        finally:
            closing.set()
    assert {name: most for name, most in sessions.most.items() if most > MOST} == {}
