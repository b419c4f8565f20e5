"""A connection that comes back: opened on first use, dropped when it breaks, opened again on the next use.

Statements end on the server. Each session carries a `statement_timeout` and a `lock_timeout`, so what takes too long
is cancelled there, rolled back, and reported as such on a connection that stays good. The client gives up only when no
byte has moved for longer than any statement may take. It then asks the server to cancel, and waits until the statement
is known to be over; where the server does not answer, the connection is dropped without sending what was still queued,
and the next connection ends the old session before it does anything else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias, TypeVar

from flowworker.database.capabilities import Known
from flowworker.database.connection import Connection, connect, describe
from flowworker.database.faults import is_unavailable
from flowworker.database.pooler import LOST_STATEMENT, REMEDY
from flowworker.database.statements import load
from flowworker.database.transport import bytes_moved, let_go
from flowworker.database.turns import Turns, first_turn, turn_at
from flowworker.errors import DatabaseUnavailableError, FlowWorkerError, UsageError

T = TypeVar("T")

StateCallback: TypeAlias = Callable[[bool, str | None], None]
"""Called as (up, error) whenever the connection comes up or is lost; on the loop that uses the link."""

Dsn: TypeAlias = str | Callable[[], str]
"""A PostgreSQL URI, or what gives one: asked before each connection, so that a secret may be rotated meanwhile."""


class Opener(Protocol):
    """Opens a connection, as `connection.connect` does."""

    async def __call__(
        self, dsn: str, *, application_name: str, statement_cache: bool, settings: Mapping[str, str] | None
    ) -> Connection:
        """Open it, or raise what `connect` raises."""
        ...


CLOSE_TIMEOUT = 2.0
"""Seconds for a polite goodbye to the server."""

RETRY_PAUSE = 1.0
"""Seconds after a failed attempt to connect in which no other is made: the users of a link all retry by themselves, and
a server that is down or full must not feel how many they are."""

SILENCE = 3.0
"""Seconds without a moving byte, on top of what a statement may take, after which the client gives up; half as many are
for the server to confirm that the cancelled statement is over."""

FIRST_LOOK = 0.1
LOOKS = 0.9
"""Parts of the silence allowed, until the first look at how many bytes have moved and between two."""

DISTRUST = 30.0
"""Seconds for which a connection that was lost, or could not be opened, helps out no other one: the next to find out
whether it works may wait for ten seconds."""

PROVEN_FOR = 1.0
"""Seconds since its last use after which a connection proves that it answers, before it helps out."""

PROOF_PATIENCE = 1.0
"""Seconds it has for that."""

END_PATIENCE = 2.0
"""Seconds for a session that was given up to be gone from the server."""

SESSION_SETTINGS: Mapping[str, str] = {
    "client_connection_check_interval": "2s",
    "client_min_messages": "warning",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "idle_in_transaction_session_timeout": "60s",
    "idle_session_timeout": "0",
    "jit": "off",
    "search_path": 'pg_catalog, "$user", public',
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15s",
    "transaction_timeout": "0",
}
"""What every session of ours sets besides its limits: the statements are written for these, and a role or database may
have other defaults. `default_transaction_read_only` is left alone: people switch a database to maintenance with it."""


BESIDE_AFTER = 0.05
"""Seconds that work waits for a connection that all share before it goes to the one aside. Statements take
milliseconds, so one that takes long makes the others wait no more than this, where the server is near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a statement may take on the server, in seconds; it is cancelled there and rolled back."""

    statement: float
    lock: float
    """The same for one wait for a lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Names one session of the server."""

    pid: int
    began_at: datetime


class Link:
    """One connection, used by one piece of work at a time; belongs to the event loop that uses it first."""

    def __init__(
        self,
        dsn: Dsn,
        *,
        application_name: str,
        statement_cache: bool = True,
        timeout: float = 30.0,
        limits: Limits | None = None,
        silence: float = SILENCE,
        settings: Mapping[str, str] | None = None,
        idle_timeout: float | None = None,
        on_state: StateCallback | None = None,
        opener: Opener = connect,
    ) -> None:
        """Open nothing yet.

        Args:
            dsn: a PostgreSQL URI, or what gives one.
            application_name: shown in pg_stat_activity.
            statement_cache: False for a transaction pooler. Nothing is set on its sessions, which others use too; the
                client's own limit then ends statements.
            timeout: without `limits`, seconds without a moving byte after which a piece of work is given up.
            limits: how long a statement may take; each piece of work may bring others.
            silence: with `limits`, seconds without a moving byte on top of them.
            settings: further settings of the session.
            idle_timeout: seconds without use after which the connection is closed; None keeps it.
            on_state: called on every change between up and down.
            opener: opens the connection.
        """
        self._dsn = dsn
        self._application_name = application_name
        self._statement_cache = statement_cache
        self._timeout = timeout
        self._limits = limits
        self._silence = silence
        self._settings = settings
        self._idle_timeout = idle_timeout
        self._turns = Turns()
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._given_up: set[Session] = set()
        self._applied: Limits | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._up: bool | None = None
        self._refusal = ""
        self._refused_because: BaseException | None = None
        self._refused_until = float("-inf")
        self._lost_at = float("-inf")
        self._answered_at = float("-inf")
        self._opener = opener
        self.on_state = on_state

    @property
    def given_up(self) -> int:
        """Sessions that were dropped in use and are not known to be gone from the server."""
        return len(self._given_up)

    @property
    def busy(self) -> bool:
        """Whether work runs on it, so that more would have to wait."""
        return self._turns.taken

    @property
    def limits(self) -> Limits | None:
        """How long a statement may take unless its piece of work brings other limits."""
        return self._limits

    async def run(
        self, work: Callable[[Connection], Awaitable[T]], *, limits: Limits | None = None, urgent: bool = False
    ) -> T:
        """Do a piece of work on the connection.

        Args:
            work: gets the connection.
            limits: of its statements, instead of the link's own.
            urgent: it goes before other work that waits, which has a turn in between.

        Raises:
            asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError: a statement took longer than the limits allow.
                It is over and rolled back.
            DatabaseUnavailableError: no connection, or it broke during the work, which may have been committed.
            AuthenticationError, MissingRightsError, UsageError: connecting is refused and will stay so, or a pooler in
                transaction mode loses prepared statements.
        """
        await turn_at(self._turns, urgent=urgent)
        return await self._in_turn(work, limits)

    async def run_here_or(
        self, other: "Link", work: Callable[[Connection], Awaitable[T]], *, after: float, limits: Limits | None = None
    ) -> T:
        """Do a piece of work on this connection, or on another one that is free earlier, within this one's limits.

        Args:
            other: asked only after so many seconds, and not where it was lost of late. Where it cannot be opened, or
                has died in silence while it was idle, the work waits for this one.
            work: as for `run`.
            after: see `other`.
            limits: on the other one, instead of those of this one.

        Raises:
            as `run`.
        """
        elsewhere = self._turns if other._is_distrusted else other._turns
        if await first_turn(self._turns, elsewhere, after=after) is self._turns:
            return await self._in_turn(work, None)
        began = False

        async def noted(connection: Connection) -> T:
            nonlocal began
            await other._prove(connection)
            began = True
            return await work(connection)

        try:
            return await other._in_turn(noted, limits or self._limits)
        except FlowWorkerError:
            if began:
                raise
        return await self.run(work)

    async def close(self) -> None:
        """Close the connection; the link may be used again afterwards."""
        await turn_at(self._turns)
        try:
            self._stay()
            connection, self._connection = self._connection, None
            if connection is None or connection.is_closed():
                return
            try:
                await connection.close(timeout=CLOSE_TIMEOUT)
            except Exception as error:
                connection.terminate()
                if not is_unavailable(error):
                    raise
        finally:
            self._turns.end()

    @property
    def _is_distrusted(self) -> bool:
        return asyncio.get_running_loop().time() - self._lost_at < DISTRUST

    async def _in_turn(self, work: Callable[[Connection], Awaitable[T]], limits: Limits | None) -> T:
        try:
            self._stay()
            connection = await self._open()
            return await self._attempt(connection, work, limits or self._limits)
        finally:
            self._rest()
            self._turns.end()

    async def _attempt(
        self, connection: Connection, work: Callable[[Connection], Awaitable[T]], limits: Limits | None
    ) -> T:
        silence = self._timeout if limits is None else limits.statement + self._silence
        try:
            async with _Progress(connection, silence):
                await self._apply(connection, limits)
                done = await work(connection)
                self._answered_at = asyncio.get_running_loop().time()
                return done
        except asyncio.CancelledError:
            await self._end_statement(connection)
            raise
        except LOST_STATEMENT as error:
            raise UsageError(f"a prepared statement got lost: {REMEDY}") from error
        except Exception as error:
            if isinstance(error, TimeoutError) and not connection.is_closed():
                await self._end_statement(connection)
                self._report(False, describe(error))
                raise DatabaseUnavailableError(f"the database has not answered for {silence:.0f} s") from error
            if not (is_unavailable(error) or connection.is_closed()):
                raise
            self._drop()
            self._report(False, describe(error))
            raise DatabaseUnavailableError(f"the database went away: {describe(error)}") from error

    async def _prove(self, connection: Connection) -> None:
        if asyncio.get_running_loop().time() - self._answered_at > PROVEN_FOR:
            async with asyncio.timeout(PROOF_PATIENCE):
                await connection.execute("SELECT 1")

    async def _apply(self, connection: Connection, limits: Limits | None) -> None:
        if limits is None or limits == self._applied or not self._statement_cache:
            return
        self._applied = None
        await connection.fetchrow(load("session/limit"), _milliseconds(limits.statement), _milliseconds(limits.lock))
        self._applied = limits

    async def _end_statement(self, connection: Connection) -> None:
        """Cancelling the work asked the server to cancel the statement: keep the connection once that is answered."""
        try:
            async with asyncio.timeout(self._silence / 2):
                await connection.execute("SELECT 1")
            if connection.is_in_transaction():
                self._drop()
        except BaseException as error:
            self._drop()
            if not isinstance(error, Exception):
                raise

    async def _open(self) -> Connection:
        if self._connection is not None and self._connection.is_closed():
            self._drop()
            self._report(False, "the server closed the connection")
        if self._connection is None:
            self._connection = await self._connect()
        self._report(True, None)
        return self._connection

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if loop.time() < self._refused_until:
            raise DatabaseUnavailableError(self._refusal) from self._refused_because
        try:
            connection = await self._opener(
                self._current_dsn(),
                application_name=self._application_name,
                statement_cache=self._statement_cache,
                settings=self._settings,
            )
            await self._begin_session(connection)
            return connection
        except DatabaseUnavailableError as error:
            self._refusal, self._refused_because = str(error), error.__cause__
            self._refused_until = loop.time() + RETRY_PAUSE
            self._report(False, self._refusal)
            raise

    async def _begin_session(self, connection: Connection) -> None:
        """Set what our statements rely on, and end the sessions that were given up."""
        self._applied = None
        if self._limits is None or not self._statement_cache:
            return
        settings = {
            **SESSION_SETTINGS,
            "statement_timeout": _milliseconds(self._limits.statement),
            "lock_timeout": _milliseconds(self._limits.lock),
        }
        try:
            async with asyncio.timeout(self._limits.statement + self._silence):
                row = await connection.fetchrow(load("session/begin"), list(settings), list(settings.values()))
                assert row is not None
                await self._end_given_up(connection)
        except LOST_STATEMENT as error:
            let_go(connection)
            raise UsageError(f"a prepared statement got lost: {REMEDY}") from error
        except Exception as error:
            let_go(connection)
            raise DatabaseUnavailableError(f"the database went away: {describe(error)}") from error
        except BaseException:
            let_go(connection)
            raise
        self._applied = self._limits
        self._session = Session(pid=row["pid"], began_at=row["backend_start"])

    async def _end_given_up(self, connection: Connection) -> None:
        """Until they are gone, what they were doing may still be committed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + END_PATIENCE
        while self._given_up and loop.time() < deadline:
            sessions = tuple(self._given_up)
            rows = await connection.fetch(
                load("session/end"), [session.pid for session in sessions], [session.began_at for session in sessions]
            )
            left = {row["pid"] for row in rows}
            self._given_up = {session for session in self._given_up if session.pid in left}
            if self._given_up:
                await asyncio.sleep(0.02)

    def _current_dsn(self) -> str:
        if isinstance(self._dsn, str):
            return self._dsn
        try:
            return self._dsn()
        except UsageError as error:  # the file is being replaced
            raise DatabaseUnavailableError(str(error)) from error

    def _drop(self) -> None:
        if self._connection is not None:
            self._remember_given_up()
            let_go(self._connection)
            self._connection = None

    def _remember_given_up(self) -> None:
        if self._session is not None:
            self._given_up.add(self._session)
            self._session = None

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _rest(self) -> None:
        if self._idle_timeout is not None and self._connection is not None:
            self._idle = asyncio.get_running_loop().call_later(self._idle_timeout, self._close_idle)

    def _close_idle(self) -> None:
        if not self.busy:
            self._closing = asyncio.get_running_loop().create_task(self.close(), name="close an idle connection")

    def _report(self, up: bool, error: str | None) -> None:
        self._lost_at = float("-inf") if up else asyncio.get_running_loop().time()
        if up is not self._up:
            self._up = up
            if self.on_state is not None:
                self.on_state(up, error)


class _Progress:
    """A deadline that moves on as long as bytes do; TimeoutError once nothing has moved for too long.

    Nearly every piece of work is over long before the first look, and pays for one timer.
    """

    def __init__(self, connection: Connection, silence: float) -> None:
        self._connection = connection
        self._silence = silence
        self._timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._moved: int | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        began = self._loop.time()
        self._deadline = began + self._silence
        self._check = self._loop.call_at(began + FIRST_LOOK * self._silence, self._look)

    async def __aexit__(self, *reason: object) -> bool | None:
        self._check.cancel()
        return await self._timeout.__aexit__(*reason)  # pyright: ignore[reportArgumentType]

    def _look(self) -> None:
        now, moved = self._loop.time(), bytes_moved(self._connection)
        if None not in (moved, self._moved) and moved != self._moved:
            self._deadline = now + self._silence
        self._moved = moved
        if now >= self._deadline:
            self._timeout.reschedule(now)
        else:
            self._check = self._loop.call_at(min(self._deadline, now + LOOKS * self._silence), self._look)


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The connections of a process, at most five.

    What takes too long on `claim` or `finish` is repeated on `aside`, where it delays only other work in trouble. Until
    it is known to take too long, others that wait for that connection use `aside`.
    """

    claim: Link
    finish: Link
    aside: Link
    """For recovery, the check of announcements, and whatever is in trouble or holds others up; closed when idle."""
    beat: Link
    """Heartbeats alone; belongs to the pulse's own event loop, like `pulse`."""
    pulse: Link
    """Extends leases and listens."""
    known: Known = field(default_factory=Known, init=False)
    """The database's capabilities, for those who work on the main loop."""

    async def on_claim(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do a piece of work that takes milliseconds on the connection of the claims; raises what `Link.run` does."""
        return await self.claim.run_here_or(self.aside, work, after=BESIDE_AFTER)

    async def on_finish(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The same on the connection of the finishes."""
        return await self.finish.run_here_or(self.aside, work, after=BESIDE_AFTER)

    def of_main_loop(self) -> tuple[Link, ...]:
        """Those that the worker's own event loop uses."""
        return self.claim, self.finish, self.aside
