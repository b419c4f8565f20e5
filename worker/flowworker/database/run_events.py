"""Changes of runs as they are announced: which of them are, and hearing of them, so that a waiter need not ask often.

On a plain PostgreSQL our stand-in for `realtime.send` notifies channel `pgflow`. PostgreSQL lets only one transaction
with a NOTIFY commit at a time. So what is announced bounds how many runs a second can start, and less is announced by
default.

Where the stand-in announces nothing, with Supabase's own realtime, and through a transaction pooler, nothing is heard:
the waiter's own questions still find out, only later.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from flowworker.database.connection import CONNECTION_LOST, Connection, connect
from flowworker.errors import FlowWorkerError

CHANNEL = "pgflow"

BEFORE_THE_CHOICE = "pg_notify('pgflow'"
"""In the function's text in installations from before there was a choice: it announced everything."""

_MARK = re.compile(r"-- flowworker announces: (none|ends|all)\b")


class RunEventScope(StrEnum):
    """What is announced on channel `pgflow`."""

    NONE = "none"
    """Nothing."""
    ENDS = "ends"
    """That a run has completed or failed."""
    ALL = "all"
    """Every start and end of a run or step."""


DEFAULT_SCOPE = RunEventScope.ENDS


def chosen_scope(source: str | None) -> RunEventScope | None:
    """The scope that an installation chose; None where there is none to keep.

    Args:
        source: text of realtime.send in the database.
    """
    mark = None if source is None else _MARK.search(source)
    return None if mark is None else RunEventScope(mark[1])


def scope_of(source: str | None) -> RunEventScope | None:
    """What is announced now; None where realtime.send is missing or not ours."""
    if source is not None and chosen_scope(source) is None and BEFORE_THE_CHOICE in source:
        return RunEventScope.ALL
    return chosen_scope(source)


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
