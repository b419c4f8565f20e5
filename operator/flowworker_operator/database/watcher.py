"""One loop for each distinct connection: read all its subjects, rest, again. Ticks never overlap."""

import asyncio
import logging
import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

import asyncpg

from flowworker.database import probe
from flowworker.database.connection import CONNECT_TIMEOUT, Connection, describe
from flowworker.database.link import RETRY_PAUSE, Link
from flowworker.database.lost_peers import LostPeers
from flowworker.database.probe import WorkerRow
from flowworker.database.records import Peer
from flowworker_operator.bounded import RateLimit, TokenBucket, take_token
from flowworker_operator.database.dialing import Dialer, Resolve
from flowworker_operator.database.endpoint import Endpoint
from flowworker_operator.database.faults import (
    STANDBY,
    beyond_bounds,
    connection_fault,
    is_of_the_network,
    unreachable,
    vague,
)
from flowworker_operator.database.interpret import reading_of, unusable
from flowworker_operator.database.listener import Listener
from flowworker_operator.database.liveness import Watch, observed, silent
from flowworker_operator.database.model import Key, Reading, Subject
from flowworker_operator.database.reader import (
    COMMAND_TIMEOUT,
    MOST_AT_ONCE,
    Reader,
    ReadResult,
    StandbyError,
    Success,
    Unusable,
)
from flowworker_operator.domain.snapshot import Fault
from flowworker_operator.domain.words import shown

logger = logging.getLogger(__name__)

T = TypeVar("T")

INTERVAL = 5.0
"""Seconds between two ticks."""
EAGER_INTERVAL = 1.0
"""While work must be noticed soon, or a worker may have died."""
SHORTEST_REST = 0.2
"""Seconds between two ticks whatever happens: changes that come together are read together."""
REST_PER_ITERATION = 100e-6
"""Seconds of rest for each round of hashing that the check of a password took, some 400 times as long as the event loop
was busy with it: a server that asks for as many as it may, and hangs up, is connected to every 10 s, and PostgreSQL as
it is delivered every 0.4 s."""
HURRY = RateLimit(burst=10, per_second=1)
"""Ticks that a database itself may bring forward, by announcing messages or by answers that change: what it says has
no end, and the ticks that come anyway see to it within a second."""
LINES = RateLimit(burst=4, per_second=1 / 60)
"""Log lines about one database."""
LONGEST_LINE = 512
"""Characters of one."""
LONGEST_SLUG = 128
JITTER = 0.1
"""Part of the interval that is random."""
BACKOFF = 1.0
"""Seconds; the base of the exponential backoff with full jitter after failures."""
PUBLISH_JITTER = 0.3
"""Part of the time that is added at random before a failure of the network is published."""
ROUND_TIMEOUT = 20.0
"""Seconds for one tick in all, if subjects have to be read alone."""

Publish = Callable[[Key, Reading | Fault], None]
"""Called with every subject's reading, or with why there is none."""


@dataclass(slots=True, eq=False)
class DatabaseWatcher:
    """Reads the subjects of one connection."""

    endpoint: Endpoint
    resolve: Resolve
    clock: Callable[[], float]
    randomness: Callable[[], float]
    publish: Publish
    exact: bool
    """Whether all its hosts are known, so that FlowWorkers show exactly why one cannot be reached."""
    _subjects: dict[Key, Subject] = field(default_factory=dict[Key, Subject])
    _watches: dict[Key, Watch] = field(default_factory=dict[Key, Watch])
    _reader: Reader | None = None
    _at_once: int = MOST_AT_ONCE
    _failures: int = 0
    _publish_at: float = 0.0
    """When a failure of the network is published to FlowWorkers that may not show more of it."""
    _publishing: asyncio.TimerHandle | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: TokenBucket | None = None
    _lines: TokenBucket | None = None
    _task: "asyncio.Task[None] | None" = None
    _listener: Listener = field(init=False)
    _link: Link = field(init=False)
    _dialer: Dialer = field(init=False)
    _lost_peers: LostPeers = field(init=False)
    _patience: float = field(init=False)
    """Seconds that the longest attempt to connect takes."""

    def __post_init__(self) -> None:
        self._dialer = Dialer(self.resolve)
        self._lost_peers = LostPeers(clock=self.clock)
        self._patience = self.endpoint.arguments().timeout or CONNECT_TIMEOUT
        self._listener = Listener(self.look_soon)
        self._link = Link(
            self.endpoint.dsn,
            application_name="flowworker-operator",
            timeout=ROUND_TIMEOUT,
            settings=probe.SETTINGS,
            opener=self._open,
        )

    @property
    def place(self) -> str:
        """Where the database is, without secrets."""
        return self.endpoint.place

    async def _open(
        self, dsn: str, *, application_name: str, statement_cache: bool, settings: Mapping[str, str] | None
    ) -> Connection:
        return await self._dialer.open(
            self.endpoint.arguments,
            application_name=application_name,
            statement_cache=statement_cache,
            settings=settings,
        )

    @property
    def idle(self) -> bool:
        """Whether no FlowWorker uses this database any more."""
        return not self._subjects

    def start(self) -> None:
        """Begin to read; starting twice is one start."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"reading of {self.place}")

    async def stop(self) -> None:
        """End the loop and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._publish_no_more()
        await self._link.close()

    def put(self, subject: Subject) -> None:
        """Read this subject from now on; at once if it is new or has become eager."""
        before = self._subjects.get(subject.key)
        self._subjects[subject.key] = subject
        if before != subject and (before is None or subject.eager or before.cap != subject.cap):
            self._wake.set()

    def drop(self, key: Key) -> None:
        """Read this subject no more."""
        self._subjects.pop(key, None)
        self._watches.pop(key, None)

    def look_soon(self) -> None:
        """Something was changed: do not wait for the next tick, unless that happens all the time."""
        if self._wake.is_set():
            return
        left = take_token(self._hurry, HURRY, self.clock())
        if left is not None:
            self._hurry = left
            self._wake.set()

    async def order(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do a piece of work on the connection, between two ticks.

        Raises:
            DatabaseUnavailableError: no connection now, or it broke during the work.
            AccessError, UsageError: connecting is refused and will stay so.
        """

        async def limited(connection: Connection) -> T:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                return await work(connection)

        return await self._link.run(limited)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self._tick()
            await self._rest()

    async def _tick(self) -> None:
        subjects = tuple(self._subjects.values())
        if not self._failures:
            self._publish_at = self.clock() + self._patience * (1.0 + PUBLISH_JITTER * self.randomness())
        try:
            await self._link.run(lambda connection: self._round(connection, subjects))
            self._succeed()
        except StandbyError:
            await self._link.close()
            self._fail(subjects, unreachable(asyncpg.ReadOnlySQLTransactionError(STANDBY), self.place), secret=False)
        except Exception as error:  # noqa: BLE001 (whatever one database does must not end the reading of it)
            self._fail(subjects, self._fault_of(error), secret=not self.exact and self._is_secret(error))

    def _fault_of(self, error: Exception) -> Fault:
        refused = self._dialer.refused
        if refused is None:
            return connection_fault(error, self.place)
        # It may have been the answer for many subjects together.
        self._at_once = max(1, min(self._at_once, len(self._subjects)) // 2)
        return beyond_bounds(refused, self.place)

    def _is_secret(self, error: Exception) -> bool:
        """Whether why it failed says something about the network."""
        if self._dialer.refused is not None:
            return self._reader is None
        if isinstance(error.__cause__, ssl.SSLError):
            return self.endpoint.begins_with_tls
        return is_of_the_network(error)

    def _succeed(self) -> None:
        self._publish_no_more()
        if self._failures:
            self._say(logging.INFO, f"{self.place} answers again")
        self._failures = 0

    def _fail(self, subjects: Sequence[Subject], fault: Fault, *, secret: bool) -> None:
        if not self._failures:
            self._say(logging.WARNING, f"{fault.reason}: {fault.message}")
        self._failures += 1
        self._reader = None
        self._watches.clear()
        if secret:
            self._publish_later(vague(self.place))
            return
        self._publish_no_more()
        for subject in subjects:
            self._publish(subject, fault)

    def _publish_later(self, fault: Fault) -> None:
        """A port that is closed fails at once, and a silent one late: both are published after the same time."""
        if self._publishing is None:
            delay = max(0.0, self._publish_at - self.clock())
            self._publishing = asyncio.get_running_loop().call_later(delay, self._publish_all, fault)

    def _publish_all(self, fault: Fault) -> None:
        self._publishing = None
        for subject in tuple(self._subjects.values()):
            self._publish(subject, fault)

    def _publish_no_more(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None

    async def _round(self, connection: Connection, subjects: Sequence[Subject]) -> None:
        reader = self._reader
        if reader is None or reader.connection is not connection:
            reader = self._reader = await Reader.begin(connection, self.clock, self._at_once)
        outcomes = await reader.read(subjects)
        lost = await self._judge(connection, outcomes)
        for subject in subjects:
            self._conclude(subject, outcomes[subject.key], lost, reader.database)
        idle = (subject.slug for subject in subjects if subject.eager and _is_empty(outcomes[subject.key]))
        async with asyncio.timeout(COMMAND_TIMEOUT):
            if await self._listener.listen(connection, idle):
                self.look_soon()

    async def _judge(self, connection: Connection, outcomes: Mapping[Key, ReadResult]) -> set[UUID]:
        """Workers that died without a word; they are marked lost in the database before this process reports them."""
        dead: dict[UUID, WorkerRow] = {}
        for key, outcome in outcomes.items():
            if not isinstance(outcome, Success):
                self._watches.pop(key, None)
                continue
            rows = outcome.sample.workers
            watch = observed(self._watches.get(key, Watch()), rows, sent=outcome.sent, answered=outcome.answered)
            self._watches[key] = watch
            dead |= {row.worker_id: row for row in silent(watch, rows)}
        return await self._mark(connection, tuple(dead.values()))

    async def _mark(self, connection: Connection, dead: Sequence[WorkerRow]) -> set[UUID]:
        lost: set[UUID] = set()
        by_slug: defaultdict[str, list[Peer]] = defaultdict(list)
        for row in dead:
            by_slug[row.slug].append(_peer(row))
        for slug, peers in sorted(by_slug.items()):
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    marked = await self._lost_peers.mark(connection, slug, peers)
            except (asyncpg.InsufficientPrivilegeError, asyncpg.LockNotAvailableError) as error:
                what = f"workers of {shown(slug, limit=LONGEST_SLUG)} are silent and could not be marked lost"
                self._say(logging.WARNING, f"{self.place}: {what}: {describe(error)}")
                marked = [peer.worker_id for peer in peers]
            lost |= set(marked)
        return lost

    def _conclude(self, subject: Subject, outcome: ReadResult, lost: set[UUID], database: str) -> None:
        match outcome:
            case Success():
                reading = reading_of(subject, outcome.sample, lost, tick=outcome.sent, database=database)
                self._publish(subject, reading)
            case Unusable():
                self._publish(subject, unusable(outcome.fault, tick=outcome.sent, database=database))
            case Fault():
                self._publish(subject, outcome)

    def _publish(self, subject: Subject, result: Reading | Fault) -> None:
        if subject.key in self._subjects:
            self.publish(subject.key, result)

    def _say(self, level: int, line: str) -> None:
        """Log what a database is the cause of: a few lines, then one a minute, whatever it does."""
        left = take_token(self._lines, LINES, self.clock())
        if left is not None:
            self._lines = left
            logger.log(level, "%s", shown(line, limit=LONGEST_LINE))

    async def _rest(self) -> None:
        hashing = self._dialer.take_hashing() * REST_PER_ITERATION
        pause = max(self._pause(), hashing)
        shortest = pause if self._failures else max(SHORTEST_REST, hashing)
        await asyncio.sleep(shortest)
        if pause > shortest:
            try:
                async with asyncio.timeout(pause - shortest):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _pause(self) -> float:
        if self._failures:
            return max(RETRY_PAUSE, self.randomness() * min(INTERVAL, BACKOFF * 2.0 ** min(self._failures, 32)))
        hurried = any(subject.eager for subject in self._subjects.values()) or any(
            watch.suspicious for watch in self._watches.values()
        )
        interval = EAGER_INTERVAL if hurried else INTERVAL
        return interval * (1.0 - JITTER * self.randomness())


def _is_empty(outcome: ReadResult) -> bool:
    return isinstance(outcome, Success) and outcome.sample.queue_readable is True and outcome.sample.startable == 0


def _peer(row: WorkerRow) -> Peer:
    return Peer(worker_id=row.worker_id, boot_id=row.boot_id, pod_uid=row.pod_uid, state=row.state, beat=row.beat)
