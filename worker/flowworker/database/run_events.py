"""Hearing about runs as they move, so that who waits for one need not ask so often.

On a plain PostgreSQL our stand-in for `realtime.send` notifies channel `pgflow`, of the ends of runs or of all changes
(`flowworker.database.announcements`). Where it announces nothing, with Supabase's own realtime, and through a
transaction pooler, nothing is heard: the waiter's own questions still find out, only later.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from flowworker.database.connection import CONNECTION_LOST, Connection, connect
from flowworker.errors import FlowWorkerError

CHANNEL = "pgflow"


class RunEvents:
    """One listening connection for all runs that callers wait for; opened for the first of them."""

    def __init__(self, dsn: str, *, application_name: str) -> None:
        self._dsn = dsn
        self._application_name = application_name
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self._waiting: dict[str, list[asyncio.Event]] = {}

    @asynccontextmanager
    async def about(self, run_id: UUID) -> AsyncGenerator[asyncio.Event]:
        """Give an event that is set whenever something happened to the run; the waiter clears it."""
        happened = asyncio.Event()
        waiters = self._waiting.setdefault(str(run_id), [])
        waiters.append(happened)
        try:
            await self._listen()
            yield happened
        finally:
            waiters.remove(happened)
            if not waiters:
                self._waiting.pop(str(run_id), None)

    async def close(self) -> None:
        """Close the connection; listening again opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _listen(self) -> None:
        async with self._opening:
            if self._connection is not None and not self._connection.is_closed():
                return
            # Only an accelerator: what is wrong with the database, the waiter's own questions will say.
            with suppress(FlowWorkerError, asyncpg.PostgresError, *CONNECTION_LOST):
                self._connection = await connect(self._dsn, application_name=self._application_name)
                await self._connection.add_listener(CHANNEL, self._notice)

    def _notice(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        with suppress(orjson.JSONDecodeError, TypeError, AttributeError):
            message: Any = orjson.loads(str(payload))
            for happened in self._waiting.get(str(message.get("run_id")), ()):
                happened.set()
