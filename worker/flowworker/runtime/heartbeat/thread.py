"""The heartbeat: a thread with its own event loop and two connections, one per process.

It beats every 3 s for all workers of the process in one statement: heartbeat and report, drain requests, and a look at
some of the peers. Where one of these is silent, it also beats as soon as that one can be dead. It extends leases,
listens for inserts and watches the main loop. Each of these has a rhythm of its own, and the heartbeat has a connection
of its own, so none delays another. Nothing a handler does, short of holding the interpreter lock, can delay them;
whatever they learn goes to the main loop by `call_soon_threadsafe`.
"""

import asyncio
import contextlib
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from flowworker.database.connection import describe
from flowworker.database.heartbeat import SAMPLE, Beat, Crew, Holder, Look, OwnRow, Report, Served
from flowworker.database.records import Peer
from flowworker.database.server_clock import ServerClock
from flowworker.errors import FlowWorkerError, UsageError
from flowworker.runtime.backoff import backoff
from flowworker.runtime.heartbeat.background_loop import BackgroundLoop
from flowworker.runtime.heartbeat.database import HeartbeatPort
from flowworker.runtime.heartbeat.extender import BEAT_INTERVAL, OUTAGE_AFTER, Extender
from flowworker.runtime.heartbeat.liveness import (
    DEATH_AFTER,
    Success,
    Watch,
    alive_since,
    dead_at,
    failed,
    quiet_since,
    succeeded,
    watched_for,
)
from flowworker.runtime.heartbeat.liveness_socket import LivenessSocket
from flowworker.runtime.heartbeat.loop_watch import Blockage, LoopWatch
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.source import Source

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_CAP = 2.0
"""Longest pause after a failed heartbeat, in seconds: well below the age at which peers call us dead."""

ALIVE_WITHIN = 10.0
"""The thread itself is alive when its loop has run within this many seconds."""

TURN_WITHIN = 60.0
"""Seconds within which each of its tasks must have ended a round, well or not; every round has time limits."""

PRUNE_INTERVAL = (3600.0, 7200.0)
"""Seconds between two clean-ups of what ended a day ago."""

LEAVE_TIMEOUT = 3.0
"""Seconds for marking workers stopped and for ending the thread."""

WIDE_SAMPLE = 1000
"""Peers one heartbeat looks at after one in which most were silent: few are left to look."""

LISTEN_INTERVAL = 10.0
"""Seconds between two looks at whether the connection that listens still answers: a cut one is noticed at once, and one
that has fallen silent costs fallback polls until then."""

LOCKED_INTERVAL = 0.5
"""Seconds to the next heartbeat after one that found the row of a worker locked: it should be written before peers, who
have seen no heartbeat of it for so long, find the lock gone."""

CONTEST_INTERVAL = 1.0
"""Seconds between two looks at a worker id that belongs to another process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatResult:
    """What one heartbeat brought for one worker."""

    own: OwnRow | None
    dead: Sequence[Peer]
    departed: bool
    """A peer that we look at has ended or was marked lost since the last heartbeat: it may have left something behind.
    About ten of a large fleet see so. If all did, a fleet that ends would cost as many looks as it has pairs."""


class Member(Protocol):
    """A worker as the thread sees it. Everything here is called in the thread and must not block."""

    @property
    def worker_id(self) -> UUID: ...

    @property
    def source(self) -> Source: ...

    @property
    def channel(self) -> str | None:
        """Where inserts are announced; None to not listen."""
        ...

    def report(self) -> Report: ...

    def owned(self) -> Sequence[HeldTask]: ...

    def on_beat(self, result: BeatResult) -> None: ...

    def on_lost_leases(self, held_tasks: Sequence[HeldTask]) -> None: ...

    def on_insert(self) -> None: ...

    def on_trial(self) -> None:
        """A note arrived on the trial channel."""
        ...

    def on_listening(self) -> None:
        """The channel is listened to on a new connection."""
        ...

    def on_blocked(self, blockage: Blockage) -> None: ...


class HeartbeatThread:
    """The thread."""

    def __init__(
        self, port: Callable[[], HeartbeatPort], *, boot_id: UUID, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start nothing yet.

        Args:
            port: makes the connections; called in the heartbeat's thread.
            boot_id: shared by all workers of this process.
            clock: monotonic seconds.
        """
        self._make_port = port
        self._boot_id = boot_id
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._members: dict[UUID, Member] = {}
        self._liveness_socket = LivenessSocket(boot_id)
        self._watch = Watch()
        self._death_due = math.inf
        self._look_after = UUID(int=0)
        self._most_silent = False
        self._kept_out = False
        self._last_ends: Mapping[Served, datetime | None] = {}
        self._server_clock = ServerClock(clock)
        self._failures = 0
        self._last_beat = clock()
        self._prune_at = clock() + random.uniform(0, PRUNE_INTERVAL[1])  # noqa: S311 - spreads a fleet
        self._finished: Future[None] = Future()
        self._backgrounds: Sequence[BackgroundLoop] = ()

    @property
    def trial_channel(self) -> str:
        """Where a note shows whether notes arrive."""
        return f"flowworker.{self._boot_id}"

    @property
    def network_namespace(self) -> str | None:
        """Where the socket is bound that shows that this process lives; None where there is none."""
        return self._liveness_socket.network_namespace

    @property
    def alive(self) -> bool:
        """Whether its thread and every task of it run; the database may be away."""
        if self._thread is None or self._finished.done():
            return False
        now = self._clock()
        turning = all(now - background.turned_at < TURN_WITHIN for background in self._backgrounds)
        return turning and now - self._loop_watch.looked_at < ALIVE_WITHIN

    @property
    def beat_age(self) -> float:
        """Seconds since the last successful heartbeat."""
        return self._clock() - self._last_beat

    @property
    def blocked_for(self) -> float:
        """Seconds for which the main loop has not run; 0 when it runs."""
        return self._loop_watch.blocked_for if self._thread is not None else 0.0

    @property
    def has_watched(self) -> bool:
        """Whether heartbeats have succeeded without a break for as long as every living worker takes to show itself."""
        return watched_for(self._watch, self._clock()) >= DEATH_AFTER

    async def start(self) -> None:
        """Start the thread; called on the main loop, which it will watch."""
        if self._thread is not None:
            return
        main = asyncio.get_running_loop()
        self._loop_watch = LoopWatch(main, threading.get_ident(), self._blocked, self._clock)
        ready: Future[None] = Future()
        self._finished = Future()
        self._liveness_socket.begin()
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
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await asyncio.shield(asyncio.wrap_future(self._finished))
        self._liveness_socket.end()

    async def attach(self, member: Member) -> BeatResult:
        """Register a worker and beat for it once.

        Raises:
            UsageError: a living process goes under its id.
            FlowWorkerError: the database is away, or the role may not register.
        """
        return await self._call(self._attach(member))

    async def detach(self, member: Member, *, mark_stopped: bool) -> None:
        """Beat no longer for a worker; with `mark_stopped`, say so in the database as far as it can be reached."""
        if not self._finished.done():
            await self._call(self._detach(member.worker_id, mark_stopped))

    def beat_soon(self) -> None:
        """Do not wait for the next beat: there is something to report."""
        if self._thread is not None and not self._finished.done():
            with contextlib.suppress(RuntimeError):  # the thread's loop has just closed
                self._loop.call_soon_threadsafe(self._beating.hurry)

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _run(self, ready: "Future[None]") -> None:
        # From here on it cannot be cancelled; a caller that cancelled it before does not wait for it.
        ready.set_running_or_notify_cancel()
        try:
            asyncio.run(self._live(ready))
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            logger.exception("the heartbeat ended; the process is not alive any more and must be started again")
        finally:
            self._finished.set_result(None)

    async def _live(self, ready: "Future[None]") -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._port = self._make_port()
        self._extender = Extender(leases=self._port, server_now=self._server_clock.now, clock=self._clock)
        self._beating = self._background("the heartbeat", self._beat_once)
        self._extending = self._background("extending leases", self._extend_once)
        self._listening = self._background("listening", self._listen_once)
        pruning = self._background("pruning", self._prune_once)
        self._backgrounds = (self._beating, self._extending, self._listening)
        watching = asyncio.create_task(self._loop_watch.run(), name="watch of the main loop")
        watching.add_done_callback(self._watch_ended)
        if not ready.cancelled():
            ready.set_result(None)
        await self._ending.wait()
        for background in (*self._backgrounds, pruning):
            await background.stop()
        watching.cancel()
        await asyncio.wait({watching})
        with contextlib.suppress(TimeoutError, FlowWorkerError):
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self._port.close()

    def _background(self, name: str, turn: Callable[[], Coroutine[Any, Any, float]]) -> BackgroundLoop:
        return BackgroundLoop(name, turn, clock=self._clock)

    def _watch_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the watch of the main loop ended; the pulse counts as dead", exc_info=error)

    async def _beat_once(self) -> float:
        """Beat; returns when the next one is due, counted from the start of this one."""
        began, wide = self._clock(), self._most_silent
        members = tuple(self._members.values())
        if not members:
            return began + BEAT_INTERVAL
        try:
            await self._beat(members)
        except BaseException as error:
            self._watch, self._death_due = failed(self._watch), math.inf
            if not isinstance(error, Exception):
                raise
            return began + self._failed(error)
        if self._kept_out:
            return began + LOCKED_INTERVAL
        if self._most_silent and not wide:
            return began
        return min(began + BEAT_INTERVAL, self._death_due)

    async def _beat(self, members: Sequence[Member]) -> None:
        sent = self._clock()
        dead_since = alive_since(self._watch, sent)
        sample = WIDE_SAMPLE if self._most_silent else SAMPLE
        if sent < self._death_due:  # otherwise we look at the same ones again
            self._look_after = UUID(int=random.getrandbits(128))
        look = Look(since=quiet_since(self._watch, sent), after=self._look_after, sample=sample)
        beat = await self._port.beat([member.report() for member in members], look)
        now = self._clock()
        self._watch = succeeded(self._watch, Success(sent=sent, received=now, at=beat.at, server=beat.server))
        in_order = len(self._watch.successes) > 1
        self._server_clock.set(beat.at)
        if now - self._last_beat > OUTAGE_AFTER:
            self._extending.hurry()
        self._last_beat = now
        self._failures = 0
        self._kept_out = any(not own.written and not own.lost for own in beat.own.values())
        dead = _dead(beat, dead_since if in_order else None)
        self._most_silent = any(
            crew.looked_at >= sample and 2 * len(dead[key]) > crew.looked_at for key, crew in beat.crews.items()
        )
        self._death_due = self._next_death(beat, now)
        for member in members:
            if member.worker_id in self._members:
                member.on_beat(self._result(member, beat, dead.get((member.source.kind, member.source.slug), ())))
        self._last_ends = {**self._last_ends, **{key: crew.last_end for key, crew in beat.crews.items()}}

    def _next_death(self, beat: Beat, now: float) -> float:
        """Monotonic seconds at which the next of the silent peers can be dead; infinite where none can."""
        silent = (peer for crew in beat.crews.values() for peer in crew.silent)
        return min((due for peer in silent if (due := dead_at(self._watch, peer.beat)) > now), default=math.inf)

    def _result(self, member: Member, beat: Beat, dead: Sequence[Peer] = ()) -> BeatResult:
        key = (member.source.kind, member.source.slug)
        crew = beat.crews.get(key, Crew())
        others = [peer for peer in dead if peer.worker_id not in self._members]
        departed = crew.saw_end and key in self._last_ends and crew.last_end != self._last_ends[key]
        return BeatResult(own=beat.own.get(member.worker_id), dead=others, departed=departed)

    async def _listen_once(self) -> float:
        began = self._clock()
        await self._listen()
        return began + LISTEN_INTERVAL

    async def _listen(self) -> None:
        channels = {member.channel for member in self._members.values() if member.channel is not None}
        callbacks = {channel: self._announcer(channel) for channel in channels}
        if callbacks:
            callbacks[self.trial_channel] = self._on_trial
        renewed = await self._port.listen(callbacks, self._listening.hurry)
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

    async def _extend_once(self) -> float:
        began = self._clock()
        await self._extender.round(tuple(self._members.values()))
        return began + BEAT_INTERVAL

    async def _prune_once(self) -> float:
        if self._clock() >= self._prune_at:
            self._prune_at = self._clock() + random.uniform(*PRUNE_INTERVAL)  # noqa: S311 - spreads a fleet
            await self._port.prune()
        return self._prune_at

    def _failed(self, error: Exception) -> float:
        self._failures += 1
        expected = isinstance(error, FlowWorkerError)
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        logger.log(level, "the heartbeat failed: %s", error, exc_info=None if expected else error)
        return backoff(self._failures, random.random, cap=RETRY_CAP)

    async def _attach(self, member: Member) -> BeatResult:
        beat = await self._register(member)
        self._members[member.worker_id] = member
        self._last_beat = self._clock()
        await self._listen()
        member.on_listening()
        return self._result(member, beat)

    async def _register(self, member: Member) -> Beat:
        """Register; where the id belongs to another process, wait until that is proven to be dead or alive."""
        first: Holder | None = None
        began = self._clock()
        while True:
            beat = await self._port.register([member.report()])
            own = beat.own.get(member.worker_id)
            if own is None or own.holder is None:
                return beat
            if first is None:
                first, began = own.holder, self._clock()
                logger.warning("worker id %s belongs to another process; is that alive?", member.worker_id)
            elif own.holder != first:
                raise UsageError(
                    f"worker id {member.worker_id} belongs to a process that is alive. Two processes cannot share one: "
                    "leave --worker-id out, or give each its own"
                )
            elif self._clock() - began > DEATH_AFTER + BEAT_INTERVAL:
                await self._port.mark_lost(member.source.slug, _as_peer(member, first))
            await asyncio.sleep(CONTEST_INTERVAL)

    async def _detach(self, worker_id: UUID, mark_stopped: bool) -> None:
        member = self._members.pop(worker_id, None)
        if member is None or not mark_stopped:
            return
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self._port.mark_stopped([member.report()])
        except Exception as error:  # noqa: BLE001 - a lock or a right taken away: a stop is finished all the same
            logger.warning("could not mark worker %s as stopped, its peers will: %s", worker_id, describe(error))

    def _blocked(self, blockage: Blockage) -> None:
        for member in tuple(self._members.values()):
            member.on_blocked(blockage)


def _dead(beat: Beat, since: datetime | None) -> Mapping[Served, Sequence[Peer]]:
    """Who of each flow or queue has not reported since a time since which every living worker has; None knows none."""
    return {
        key: [peer for peer in crew.silent if since is not None and peer.beat < since]
        for key, crew in beat.crews.items()
    }


def _as_peer(member: Member, holder: Holder) -> Peer:
    return Peer(
        worker_id=member.worker_id, boot_id=holder.boot_id, pod_uid=None, state="running", beat=holder.beat
    )  # fmt: skip
