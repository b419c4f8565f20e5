"""The pulse: a thread with its own event loop and connection, one per process.

It beats every 3 s for all workers of the process in one statement: heartbeat and report, drain requests, the beats of
all peers. It extends leases, listens for inserts and watches the main loop. Nothing a handler does, short of holding
the interpreter lock, can delay it; whatever it learns goes to the main loop by `call_soon_threadsafe`.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

from flowworker.database.heartbeat import Beat, OwnRow, Report, Served
from flowworker.database.records import ClaimedTask, Peer, SourceKind
from flowworker.errors import FlowWorkerError
from flowworker.runtime.backoff import backoff
from flowworker.runtime.holdings import Holding
from flowworker.runtime.pulse.heart import Heart
from flowworker.runtime.pulse.leases import BEAT_INTERVAL, OUTAGE_AFTER, claim_pause, to_extend
from flowworker.runtime.pulse.loop_watch import Blockage, LoopWatch
from flowworker.runtime.pulse.peers import Watch, dead_peers, failed, succeeded
from flowworker.runtime.source import Source

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_CAP = 2.0
"""Longest pause after a failed heartbeat, in seconds: well below the age at which peers call us dead."""

ALIVE_WITHIN = 10.0
"""The pulse itself is alive when its loop has run within this many seconds."""

PRUNE_INTERVAL = (3600.0, 7200.0)
"""Seconds between two clean-ups of what ended a day ago."""

FAREWELL_TIMEOUT = 3.0
"""Seconds for marking workers stopped and for ending the thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What one heartbeat brought for one worker."""

    own: OwnRow | None
    dead: Sequence[Peer]
    departed: bool
    """A peer seen at the last beat has ended or was marked lost: it may have left something behind."""


class Member(Protocol):
    """A worker as the pulse sees it. Everything here is called in the pulse's thread and must not block."""

    @property
    def worker_id(self) -> UUID: ...

    @property
    def source(self) -> Source: ...

    @property
    def channel(self) -> str | None:
        """Where inserts are announced; None to not listen."""
        ...

    def report(self) -> Report: ...

    def owned(self) -> Sequence[Holding]: ...

    def on_beat(self, news: News) -> None: ...

    def on_lost_leases(self, holdings: Sequence[Holding]) -> None: ...

    def on_insert(self) -> None: ...

    def on_trial(self) -> None:
        """A note arrived on the trial channel."""
        ...

    def on_listening(self) -> None:
        """The channel is listened to on a new connection."""
        ...

    def on_blocked(self, blockage: Blockage) -> None: ...


class Pulse:
    """The thread."""

    def __init__(
        self, heart: Callable[[], Heart], *, boot_id: UUID, pod_uid: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Start nothing yet.

        Args:
            heart: makes the connection; called in the pulse's thread.
            boot_id: shared by all workers of this process.
            pod_uid: the container's pod, if any.
            clock: monotonic seconds.
        """
        self._make_heart = heart
        self._boot_id = boot_id
        self._pod_uid = pod_uid
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._members: dict[UUID, Member] = {}
        self._watches: Mapping[Served, Watch] = {}
        self._peers: Mapping[Served, frozenset[UUID]] = {}
        self._failures = 0
        self._last_beat = clock()
        self._resumed_at: float | None = None
        self._prune_at = clock() + random.uniform(0, PRUNE_INTERVAL[1])  # noqa: S311 - spreads a fleet
        self._finished: Future[None] = Future()

    @property
    def trial_channel(self) -> str:
        """Where a note shows whether notes arrive."""
        return f"flowworker.{self._boot_id}"

    @property
    def alive(self) -> bool:
        """Whether its thread runs; the database may be away."""
        return self._thread is not None and self._clock() - self._loop_watch.looked_at < ALIVE_WITHIN

    @property
    def beat_age(self) -> float:
        """Seconds since the last successful heartbeat."""
        return self._clock() - self._last_beat

    @property
    def blocked_for(self) -> float:
        """Seconds for which the main loop has not run; 0 when it runs."""
        return self._loop_watch.blocked_for if self._thread is not None else 0.0

    def claim_pause(self, kind: SourceKind) -> float:
        """Seconds until a worker of this kind may claim; infinity until the next heartbeat succeeds."""
        return claim_pause(kind, now=self._clock(), last_beat=self._last_beat, resumed_at=self._resumed_at)

    async def start(self) -> None:
        """Start the thread; called on the main loop, which it will watch."""
        if self._thread is not None:
            return
        main = asyncio.get_running_loop()
        self._loop_watch = LoopWatch(main, threading.get_ident(), self._blocked, self._clock)
        ready: Future[None] = Future()
        self._finished = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="flowworker-pulse", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(ready)

    async def stop(self) -> None:
        """End the thread; it may be started again."""
        if self._thread is None:
            return
        self._thread = None
        if not self._finished.done():
            self._loop.call_soon_threadsafe(self._ending.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_TIMEOUT):
                await asyncio.shield(asyncio.wrap_future(self._finished))

    async def attach(self, member: Member) -> News:
        """Register a worker and beat for it once.

        Raises:
            FlowWorkerError: the database is away, or the role may not register.
        """
        return await self._call(self._attach(member))

    async def detach(self, member: Member, *, mark_stopped: bool) -> None:
        """Beat no longer for a worker; with `mark_stopped`, say so in the database as far as it can be reached."""
        await self._call(self._detach(member.worker_id, mark_stopped))

    def beat_soon(self) -> None:
        """Do not wait for the next beat: there is something to report."""
        if self._thread is not None and not self._finished.done():
            self._loop.call_soon_threadsafe(self._hurry.set)

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _run(self, ready: "Future[None]") -> None:
        # From here on nobody can cancel it; who has done so before does not wait for it.
        ready.set_running_or_notify_cancel()
        try:
            asyncio.run(self._live(ready))
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            logger.exception("the pulse died")
            raise
        finally:
            self._finished.set_result(None)

    async def _live(self, ready: "Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._heart = self._make_heart()
        watching = asyncio.create_task(self._loop_watch.run(), name="watch of the main loop")
        beating = asyncio.create_task(self._beat_for_ever(), name="heartbeat")
        if not ready.cancelled():
            ready.set_result(None)
        await self._ending.wait()
        for task in (watching, beating):
            task.cancel()
        await asyncio.wait({watching, beating})
        with contextlib.suppress(TimeoutError, FlowWorkerError):
            async with asyncio.timeout(FAREWELL_TIMEOUT):
                await self._heart.close()

    async def _beat_for_ever(self) -> None:
        while True:
            began = self._clock()
            delay = BEAT_INTERVAL
            if self._members:
                delay = await self._tick()
            await self._rest(began + delay)

    async def _rest(self, until: float) -> None:
        """Sleep until the next beat is due, or somebody is in a hurry."""
        try:
            async with asyncio.timeout(max(0.0, until - self._clock())):
                await self._hurry.wait()
        except TimeoutError:
            return
        self._hurry.clear()

    async def _tick(self) -> float:
        """Beat once; seconds from its start until the next one."""
        members = tuple(self._members.values())
        try:
            await self._beat(members)
            await self._listen()
            await self._extend(members)
            await self._prune()
        except Exception as error:  # noqa: BLE001 - whatever it was, the pulse goes on
            return self._failed(error)
        return BEAT_INTERVAL

    async def _beat(self, members: Sequence[Member]) -> None:
        beat = await self._heart.beat([member.report() for member in members])
        now = self._clock()
        if now - self._last_beat > OUTAGE_AFTER:
            self._resumed_at = now
        self._last_beat = now
        self._failures = 0
        self._watches = {
            key: succeeded(self._watches.get(key, Watch()), now, peers) for key, peers in beat.peers.items()
        }
        for member in members:
            if member.worker_id in self._members:
                member.on_beat(self._news(member, beat))

    def _news(self, member: Member, beat: Beat) -> News:
        key = (member.source.kind, member.source.slug)
        peers = [peer for peer in beat.peers.get(key, ()) if peer.worker_id not in self._members]
        dead = dead_peers(self._watches.get(key, Watch()), peers, boot_id=self._boot_id, pod_uid=self._pod_uid)
        known = {peer.worker_id for peer in peers}
        departed = not known.issuperset(self._peers.get(key, ()))
        self._peers = {**self._peers, key: frozenset(known)}
        return News(own=beat.own.get(member.worker_id), dead=dead, departed=departed)

    async def _listen(self) -> None:
        channels = {member.channel for member in self._members.values() if member.channel is not None}
        callbacks = {channel: self._announcer(channel) for channel in channels}
        if callbacks:
            callbacks[self.trial_channel] = self._on_trial
        renewed = await self._heart.listen(callbacks, self._hurry.set)
        if renewed:
            for member in self._members.values():
                member.on_listening()

    def _announcer(self, channel: str) -> Callable[[], None]:
        def announce() -> None:
            for member in self._members.values():
                if member.channel == channel:
                    member.on_insert()

        return announce

    def _on_trial(self) -> None:
        for member in self._members.values():
            member.on_trial()

    async def _extend(self, members: Sequence[Member]) -> None:
        for member in members:
            holdings = to_extend(member.owned(), now=self._clock())
            if holdings:
                await self._extend_for(member, holdings)

    async def _extend_for(self, member: Member, holdings: Sequence[Holding]) -> None:
        tasks: Sequence[ClaimedTask] = [holding.task for holding in holdings]
        lost = await member.source.extend(tasks)
        if lost:
            member.on_lost_leases([holding for holding in holdings if holding.task.msg_id in lost])

    async def _prune(self) -> None:
        if self._clock() >= self._prune_at:
            self._prune_at = self._clock() + random.uniform(*PRUNE_INTERVAL)  # noqa: S311 - spreads a fleet
            await self._heart.prune()

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        self._watches = {key: failed(watch) for key, watch in self._watches.items()}
        expected = isinstance(error, FlowWorkerError)
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        logger.log(level, "the heartbeat failed: %s", error, exc_info=None if expected else error)
        return backoff(self._failures, random.random, cap=RETRY_CAP)

    async def _attach(self, member: Member) -> News:
        beat = await self._heart.register([member.report()])
        self._members[member.worker_id] = member
        self._last_beat = self._clock()
        await self._listen()
        member.on_listening()
        return self._news(member, beat)

    async def _detach(self, worker_id: UUID, mark_stopped: bool) -> None:
        if self._members.pop(worker_id, None) is None or not mark_stopped:
            return
        try:
            async with asyncio.timeout(FAREWELL_TIMEOUT):
                await self._heart.mark_stopped([worker_id])
        except (FlowWorkerError, TimeoutError) as error:
            logger.warning("could not mark worker %s as stopped, its peers will: %s", worker_id, error)

    def _blocked(self, blockage: Blockage) -> None:
        for member in tuple(self._members.values()):
            member.on_blocked(blockage)
