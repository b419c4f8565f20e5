"""A connection that comes back: opened on first use, dropped when it breaks, opened again on the next use."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from flowworker.database.connection import Connection, connect, describe
from flowworker.database.faults import is_unavailable
from flowworker.errors import DatabaseUnavailableError, UsageError

T = TypeVar("T")

StateCallback: TypeAlias = Callable[[bool, str | None], None]
"""Called as (up, error) whenever the connection comes up or is lost; on the loop that uses the link."""

Dsn: TypeAlias = str | Callable[[], str]
"""A PostgreSQL URI, or what gives one: asked before each connection, so that a secret may be rotated meanwhile."""

CLOSE_TIMEOUT = 2.0
"""Seconds for a polite goodbye to the server."""

RETRY_PAUSE = 1.0
"""Seconds after a failed attempt to connect in which no other is made: the users of a link all retry by themselves, and
a server that is down or full must not feel how many they are."""


class Link:
    """One connection, used by one piece of work at a time.

    Belongs to the event loop that uses it first. A piece of work that is cancelled, that exceeds the timeout or that
    meets a lost connection leaves a connection in an unknown state behind: it is dropped, never reused.
    """

    def __init__(
        self,
        dsn: Dsn,
        *,
        application_name: str,
        statement_cache: bool = True,
        timeout: float = 30.0,
        settings: Mapping[str, str] | None = None,
        on_state: StateCallback | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            dsn: a PostgreSQL URI, or what gives one.
            application_name: shown in pg_stat_activity.
            statement_cache: False for a transaction pooler.
            timeout: seconds after which one piece of work is given up together with its connection.
            settings: further settings of the session.
            on_state: told about every change between up and down.
        """
        self._dsn = dsn
        self._application_name = application_name
        self._statement_cache = statement_cache
        self._timeout = timeout
        self._settings = settings
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._up: bool | None = None
        self._refusal = ""
        self._refused_because: BaseException | None = None
        self._refused_until = float("-inf")
        self.on_state = on_state

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do a piece of work on the connection.

        Raises:
            DatabaseUnavailableError: no connection, or it broke during the work, which may have been committed.
            AuthenticationError, MissingRightsError, UsageError: connecting is refused and will stay so.
        """
        async with self._lock:
            connection = await self._open()
            try:
                async with asyncio.timeout(self._timeout):
                    return await work(connection)
            except asyncio.CancelledError:
                self._drop()
                raise
            except Exception as error:
                if not (is_unavailable(error) or connection.is_closed()):
                    raise
                self._drop()
                self._report(False, describe(error))
                raise DatabaseUnavailableError(f"the database went away: {describe(error)}") from error

    async def close(self) -> None:
        """Close the connection; the link may be used again afterwards."""
        async with self._lock:
            connection, self._connection = self._connection, None
            if connection is None or connection.is_closed():
                return
            try:
                await connection.close(timeout=CLOSE_TIMEOUT)
            except Exception as error:
                connection.terminate()
                if not is_unavailable(error):
                    raise

    async def _open(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        self._report(True, None)
        return self._connection

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if loop.time() < self._refused_until:
            raise DatabaseUnavailableError(self._refusal) from self._refused_because
        try:
            return await connect(
                self._current_dsn(),
                application_name=self._application_name,
                statement_cache=self._statement_cache,
                settings=self._settings,
            )
        except DatabaseUnavailableError as error:
            self._refusal, self._refused_because = str(error), error.__cause__
            self._refused_until = loop.time() + RETRY_PAUSE
            self._report(False, self._refusal)
            raise

    def _current_dsn(self) -> str:
        if isinstance(self._dsn, str):
            return self._dsn
        try:
            return self._dsn()
        except UsageError as error:  # the file is being replaced
            raise DatabaseUnavailableError(str(error)) from error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _report(self, up: bool, error: str | None) -> None:
        if up is not self._up:
            self._up = up
            if self.on_state is not None:
                self.on_state(up, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The three connections of a process. `pulse` belongs to the pulse's own event loop."""

    claim: Link
    finish: Link
    pulse: Link
