"""What all workers of one process share: at most five connections, the heartbeat, the event stream, the event loop."""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from uuid import UUID, uuid4

from flowworker.database.link import SILENCE, Dsn, Limits, Link, Links
from flowworker.database.pooler import REMEDY, shares_sessions
from flowworker.errors import UsageError
from flowworker.redaction import redact
from flowworker.runtime.heartbeat.database import DatabaseHeartbeat
from flowworker.runtime.heartbeat.thread import HeartbeatThread
from flowworker.telemetry.stream import EventStream

logger = logging.getLogger(__name__)

FAST = Limits(statement=3.0, lock=0.5)
"""Of claims and finishes, which take milliseconds. Everything of a process shares their two connections, so what takes
longer is ended and repeated on the connection aside, where it delays only other work in trouble."""

ASIDE = Limits(statement=30.0, lock=1.0)
"""Of work in trouble, unless it brings limits of its own."""

ASIDE_IDLE = 60.0
"""Seconds without use after which the connection aside is closed. Recovery uses it about once a minute as well, and so
does a worker that listens, so most workers keep it open."""

BEAT = Limits(statement=2.0, lock=1.5)
BEAT_SILENCE = 2.0
"""Of a heartbeat. A connection that swallows it is noticed after five seconds in all, and the other one beats instead:
the last heartbeat is then at most eight seconds old, and peers wait for ten."""

LEASES = Limits(statement=2.0, lock=0.5)
"""Of one statement that extends leases."""

ConnectionWatcher = Callable[[str, bool, str | None, float], None]
"""Called on the main loop with the connection's name, whether it is up, the error, and how long it was down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where a process runs, for its report; what the operator sets in a pod."""

    namespace: str | None = None
    flowworker: str | None = None
    """Name of the FlowWorker resource."""
    pod_name: str | None = None
    pod_uid: str | None = None
    revision: str | None = None

    @property
    def place(self) -> str:
        """The pod, or the machine and process."""
        return self.pod_name or f"{socket.gethostname()}:{os.getpid()}"


class Host:
    """One per process, or one per database where a process serves several."""

    def __init__(
        self, dsn: Dsn, *, direct_dsn: Dsn | None = None, statement_cache: bool = True,
        identity: Identity | None = None, events: EventStream | None = None,
    ) -> None:  # fmt: skip
        """Open nothing yet.

        Args:
            dsn: a PostgreSQL URI, or what gives one.
            direct_dsn: for the heartbeat, where `dsn` goes through a transaction pooler.
            statement_cache: False behind a transaction pooler.
            identity: where the process runs.
            events: receives every event; a new stream by default.
        """
        self.identity = identity or Identity()
        self.events = events or EventStream()
        self.boot_id: UUID = uuid4()
        self._dsn = dsn
        self._direct_dsn = direct_dsn or dsn
        self._heartbeat_is_direct = statement_cache or direct_dsn is not None
        self._statement_cache = statement_cache
        self._down_since: dict[str, float] = {}
        self._watchers: dict[object, ConnectionWatcher] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._users = 0
        self._links: Links | None = None
        self.heartbeat = HeartbeatThread(self._make_port, boot_id=self.boot_id)

    @property
    def links(self) -> Links:
        """The connections; made with the first use on the event loop."""
        if self._links is None:
            pooled = not self._heartbeat_is_direct
            self._links = Links(
                claim=self._link("claim", self._dsn, FAST),
                finish=self._link("finish", self._dsn, FAST),
                aside=self._link("aside", self._dsn, ASIDE, idle_timeout=ASIDE_IDLE),
                beat=self._link("beat", self._direct_dsn, BEAT, pooled=pooled, silence=BEAT_SILENCE),
                pulse=self._link("pulse", self._direct_dsn, LEASES, pooled=pooled),
            )
        return self._links

    async def refuse_mixed_statements(self) -> None:
        """Check that statements prepared once per connection are safe.

        Raises:
            UsageError: the two connections get each other's sessions, and with them each other's statements.
            DatabaseUnavailableError: try again later.
        """
        links = self.links
        if self._statement_cache and await links.claim.run(
            lambda one: links.finish.run(lambda other: shares_sessions(one, other))
        ):
            raise UsageError(f"prepared statements of several clients get mixed up here: {REMEDY}")

    async def enter(self) -> None:
        """One more user; the first one starts the heartbeat."""
        self._users += 1
        if self._users == 1:
            self._loop = asyncio.get_running_loop()
            _ = self.links
            await self.heartbeat.start()

    async def leave(self) -> None:
        """One user less; the last one ends the heartbeat and closes the connections."""
        self._users -= 1
        if self._users == 0:
            await self.heartbeat.stop()
            for link in self.links.of_main_loop():
                await link.close()
            await self.events.drain()

    def watch_connections(self, watcher: ConnectionWatcher) -> Callable[[], None]:
        """Call `watcher` when a connection goes down or comes back, until the returned function is called."""
        place = object()
        self._watchers[place] = watcher
        return lambda: self._watchers.pop(place, None) and None

    def _make_port(self) -> DatabaseHeartbeat:
        return DatabaseHeartbeat(beat=self.links.beat, other=self.links.pulse, lends=self._heartbeat_is_direct)

    def _link(
        self,
        name: str,
        dsn: Dsn,
        limits: Limits,
        *,
        pooled: bool | None = None,
        idle_timeout: float | None = None,
        silence: float = SILENCE,
    ) -> Link:
        return Link(
            dsn,
            application_name=f"flowworker {name}",
            statement_cache=self._statement_cache if pooled is None else not pooled,
            limits=limits,
            silence=silence,
            idle_timeout=idle_timeout,
            on_state=lambda up, error: self._on_state(name, up, error),
        )

    def _on_state(self, name: str, up: bool, error: str | None) -> None:
        """Called on the loop that uses the link: the main one, or the heartbeat's."""
        if self._loop is None or self._loop.is_closed():
            return
        if threading.current_thread().name == "flowworker-pulse":
            self._loop.call_soon_threadsafe(self._notify_watchers, name, up, error)
        else:
            self._notify_watchers(name, up, error)

    def _notify_watchers(self, name: str, up: bool, error: str | None) -> None:
        now = time.monotonic()
        if up and name not in self._down_since:
            return
        since = self._down_since.pop(name, now) if up else self._down_since.setdefault(name, now)
        for watcher in tuple(self._watchers.values()):
            watcher(name, up, None if error is None else redact(error), now - since)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Uvloop where it is installed, else the standard library's event loop."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop
