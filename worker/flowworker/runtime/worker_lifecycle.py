"""From start to stop: what a worker does with its life cycle, its registration, drain requests and its end."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID, uuid4

from flowworker.database.connection import describe
from flowworker.database.faults import is_passing
from flowworker.database.heartbeat import OwnRow, Report
from flowworker.errors import AccessError, DatabaseUnavailableError, FlowWorkerError, LifecycleError
from flowworker.option_change import REMEDY, OptionChange
from flowworker.runtime.backoff import backoff
from flowworker.runtime.exits import Exit, SlotsExhaustedError, asked_for, caused_by
from flowworker.runtime.heartbeat.loop_watch import Blockage
from flowworker.runtime.heartbeat.member import SessionMember
from flowworker.runtime.heartbeat.thread import BeatResult
from flowworker.runtime.held_tasks import HeldTasks
from flowworker.runtime.host import Host
from flowworker.runtime.lifecycle import Lifecycle, LifecycleMachine, Move, decide, wants_drain
from flowworker.runtime.loops.listening import Listening, channel_of
from flowworker.runtime.loops.session import SessionContext, WorkerSession
from flowworker.runtime.loops.settlement import Counters
from flowworker.runtime.reporting import make_report, make_state, package_version
from flowworker.runtime.service import LoopEndedError
from flowworker.runtime.sources.opening import compile_workload, make_source
from flowworker.runtime.state import WorkerState
from flowworker.runtime.workload import Router, Workload
from flowworker.telemetry.events import (
    DatabaseDown,
    DatabaseUp,
    LifecycleChanged,
    LoopBlocked,
    WorkerStarted,
    WorkerStopped,
)
from flowworker.worker_options import WorkerOptions

logger = logging.getLogger(__name__)

T = TypeVar("T")

AT_WORK = frozenset({Lifecycle.RUNNING, Lifecycle.DRAINING})

FLUSH_TIMEOUT = 10.0
"""Seconds a stopping worker tries to write its last results."""

HURRIED_FLUSH_TIMEOUT = 2.0
"""The same after a second request to stop."""


class WorkerLifecycle:
    """The inside of a `Worker`."""

    def __init__(self, workload: Workload, *, name: str, options: WorkerOptions, host: Host, router: Router) -> None:
        """Do nothing yet."""
        self._workload = workload
        self._name = name
        self._options = options
        self._host = host
        self._router = router
        self._lifecycle = LifecycleMachine(self._on_lifecycle)
        self._reason = "not started"
        self._counters = Counters()
        self._held_tasks = HeldTasks(options.max_concurrency)
        self._own: OwnRow | None = None
        self._option_changes: Sequence[OptionChange] = ()
        self._session: WorkerSession | None = None
        self._member: SessionMember | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._rejoining = False
        self._winding_down = False
        self._hurry = asyncio.Event()
        self._stopped = asyncio.Event()
        self._began_at = time.monotonic()
        self._unwatch: Callable[[], None] | None = None
        self.worker_id: UUID = options.worker_id or uuid4()
        self.exit: Exit | None = None

    @property
    def lifecycle(self) -> Lifecycle:
        """Where the worker stands."""
        return self._lifecycle.current

    def state(self) -> WorkerState | None:
        """Everything worth showing; None before there is anything."""
        if self._session is None:
            return None
        return make_state(
            self._session,
            workload=self._workload,
            host=self._host,
            options=self._options,
            counters=self._counters,
            lifecycle=self.lifecycle,
            reason=self._reason,
            option_changes=self._option_changes,
            now=time.monotonic(),
        )

    async def start(self) -> None:
        """See `Worker.start`."""
        if self.lifecycle is not Lifecycle.CREATED:
            raise LifecycleError(f"a worker starts once; this one is {self.lifecycle}")
        self._lifecycle.move(Lifecycle.STARTING, "started")
        self._starting = asyncio.create_task(self._begin(), name=f"start of {self._name}")
        try:
            await self._starting
        except BaseException as error:
            self._starting.cancel()
            await asyncio.wait({self._starting})
            stopped_meanwhile = self.exit is not None and isinstance(error, asyncio.CancelledError)
            await self._end(self.exit or caused_by(error))
            if not stopped_meanwhile:
                raise

    async def stop(self, *, immediately: bool) -> None:
        """See `Worker.stop`."""
        if self.lifecycle in {Lifecycle.CREATED, Lifecycle.STOPPED}:
            return
        if immediately:
            self._hurry.set()
        self._begin_stop(asked_for("stop requested"))
        await self._stopped.wait()

    async def wait(self) -> Exit:
        """See `Worker.wait`."""
        await self._stopped.wait()
        assert self.exit is not None
        return self.exit

    # What the session says: its supervisor.

    @property
    def may_claim(self) -> bool:
        """Whether the session may claim now."""
        return self.lifecycle is Lifecycle.RUNNING

    def fenced(self) -> None:
        """A claim found our row marked lost before a heartbeat did."""
        session = self._session
        if session is not None and self._stopping is None and not self._rejoining and self.lifecycle in AT_WORK:
            self._rejoin(session, "marked lost, which its own claim found out")

    def refused(self, error: FlowWorkerError) -> None:
        """Claims cannot work any more; what runs is finished first."""
        if self._stopping is None:
            logger.error("worker %s drains and ends: %s", self._name, error)
        self._counters.last_error = str(error)
        self._begin_stop(caused_by(error))

    def settled(self) -> None:
        """Something in flight has ended: a draining worker may be drained."""
        if self.lifecycle is Lifecycle.DRAINING:
            self._follow_own_row()

    def crashed(self, error: BaseException) -> None:
        """End at once: part of the worker does not work any more."""
        if self.exit is None:
            expected = isinstance(error, SlotsExhaustedError)
            logger.error("worker %s ends: %s", self._name, error, exc_info=None if expected else error)
        self._counters.last_error = str(error)
        self._hurry.set()
        self._begin_stop(caused_by(error))

    async def _begin(self) -> None:
        await self._host.enter()
        self._unwatch = self._host.watch_connections(self._on_connection)
        deadline = time.monotonic() + self._options.start_timeout
        await self._patiently(self._host.refuse_mixed_statements, deadline)
        self._option_changes = await self._patiently(
            lambda: compile_workload(self._workload, links=self._host.links, mode=self._options.compile), deadline
        )
        if self._option_changes:
            logger.warning(
                "%s: the options in the database are in force: %s; %s",
                self._name, "; ".join(map(str, self._option_changes)), REMEDY,
            )  # fmt: skip
        session = await self._register(deadline)
        drain = wants_drain(self._own)
        state = Lifecycle.RUNNING if drain is None else Lifecycle.DRAINING
        self._lifecycle.move(state, drain or "registered and ready")
        self._host.events.emit(WorkerStarted(worker=session.info, details=self._details()))
        session.start()
        self._host.heartbeat.beat_soon()

    async def _register(self, deadline: float) -> WorkerSession:
        """Prepare a session under the current id and register it; its loops do not run yet."""
        session = self._make_session()
        await self._patiently(session.source.prepare, deadline)
        self._session = session
        member = self._make_member(session)
        result = await self._patiently(lambda: self._host.heartbeat.attach(member), deadline)
        self._member = member
        self._own = result.own
        session.rescuer.found_dead(result.dead)
        return session

    async def _patiently(self, work: Callable[[], Awaitable[T]], deadline: float) -> T:
        """Try until the database answers, or until the deadline in monotonic seconds."""
        failures = 0
        while True:
            try:
                return await work()
            except Exception as error:
                if isinstance(error, AccessError) or not is_passing(error):
                    raise
                failures += 1
                delay = backoff(failures, random.random)
                if time.monotonic() + delay >= deadline:
                    if isinstance(error, DatabaseUnavailableError):
                        raise
                    raise DatabaseUnavailableError(f"the database is not ready: {describe(error)}") from error
                level = logging.WARNING if failures == 1 else logging.DEBUG
                logger.log(level, "%s waits for the database: %s", self._name, describe(error))
                await asyncio.sleep(delay)

    def _make_session(self) -> WorkerSession:
        given = SessionContext(
            supervisor=self,
            workload=self._workload,
            router=self._router,
            worker_name=self._name,
            options=self._options,
            events=self._host.events,
            counters=self._counters,
            held_tasks=self._held_tasks,
        )
        source = make_source(
            self._workload,
            worker_id=self.worker_id,
            links=self._host.links,
            has_watched=lambda: self._host.heartbeat.has_watched,
        )
        return WorkerSession(given, source=source, worker_id=self.worker_id)

    def _make_member(self, session: WorkerSession) -> SessionMember:
        wanted = self._options.signal_strategy
        channel = channel_of(session.source, wanted)
        listening = Listening(
            session.source,
            session.wakeup,
            self._host.links,
            wanted=wanted,
            trial_channel=None if channel is None else self._host.heartbeat.trial_channel,
            name=self._name,
        )
        return SessionMember(self, session, listening, channel=channel)

    # What the heartbeat says: the sink of the session's member.

    def report_of(self, session: WorkerSession) -> Report:
        """The row of a session; called in the heartbeat's thread."""
        return make_report(
            session,
            host=self._host,
            options=self._options,
            counters=self._counters,
            lifecycle=self.lifecycle,
            option_changes=self._option_changes,
            now=time.monotonic(),
        )

    def beaten(self, result: BeatResult) -> None:
        """Obey our row, and recover what the dead have left."""
        session = self._session
        if session is None or self.lifecycle is Lifecycle.STOPPED:
            return
        self._own = result.own
        session.rescuer.found_dead(result.dead)
        if result.departed:
            session.rescuer.sweep_soon()
        self._follow_own_row()

    def blocked(self, blockage: Blockage) -> None:
        """Name who holds the loop. Called in the heartbeat's thread, which can log meanwhile; the event follows."""
        session, member = self._session, self._member
        if session is None or member is None:
            return
        held_task = next((one for one in session.held_tasks.all() if one.handle is blockage.task), None)
        if held_task is None:
            return
        step = held_task.task.step_slug
        self._counters.last_error = f"{step} blocked the event loop for {blockage.blocked_for:.1f} s"
        logger.warning(
            "%s: %s blocks the event loop for %.1f s: nothing else runs meanwhile; use a plain `def` or "
            "run_in='process' for blocking code\n%s",
            self._name, step, blockage.blocked_for, blockage.stack,
        )  # fmt: skip
        event = LoopBlocked(worker=session.info, step_slug=step, blocked_for=blockage.blocked_for, stack=blockage.stack)
        member.post(self._host.events.emit, event)

    def _follow_own_row(self) -> None:
        session = self._session
        if session is None or self._stopping is not None:
            return
        decision = decide(
            self._own,
            lifecycle=self.lifecycle,
            in_flight=session.held_tasks.unsettled,
            when_drained=self._options.when_drained,
        )
        match decision.move:
            case Move.STAY:
                return
            case Move.DRAIN:
                self._lifecycle.move(Lifecycle.DRAINING, decision.reason)
                self._host.heartbeat.beat_soon()
            case Move.RESUME:
                self._lifecycle.move(Lifecycle.RUNNING, decision.reason)
                session.poller.kick()
            case Move.END:
                self._begin_stop(asked_for(decision.reason))
            case Move.REJOIN:
                self._rejoin(session, decision.reason)

    def _rejoin(self, session: WorkerSession, reason: str) -> None:
        if not self._rejoining:
            self._own, self._rejoining = None, True
            self.spawn(self._rejoin_as_another(session, reason), f"rejoining of {self._name}")

    async def _rejoin_as_another(self, session: WorkerSession, reason: str) -> None:
        """Drop what is held and go on under a new id."""
        logger.warning("worker %s was %s; it goes on under a new id", session.worker_id, reason)
        if self._member is not None:
            member, self._member = self._member, None
            await self._host.heartbeat.detach(member, mark_stopped=False)
        await session.abandon(reason)
        self.worker_id = uuid4()
        renewed = await self._register(math.inf)
        self._rejoining = False
        renewed.start()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something in the background; its failure ends the worker."""
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._settle)

    def _settle(self, task: "asyncio.Task[None]") -> None:
        self._background.discard(task)
        if task.cancelled():
            if not self._winding_down:
                self.crashed(LoopEndedError(f"{task.get_name()} was cancelled from outside"))
        elif (error := task.exception()) is not None:
            self.crashed(error)

    def _begin_stop(self, end: Exit) -> None:
        if self.exit is None or (self.exit.error is None and end.error is not None):
            self.exit = end
        if self.lifecycle is Lifecycle.STARTING:
            if self._starting is not None:
                self._starting.cancel()
        elif self._stopping is None and self._session is not None:
            self._stopping = asyncio.create_task(self._shut_down(end.reason), name=f"stop of {self._name}")
            self._stopping.add_done_callback(self._shut)

    def _shut(self, task: "asyncio.Task[None]") -> None:
        """Whatever a stop ended with, those who wait for it go on."""
        if task.cancelled() or (error := task.exception()) is None:
            error = None if self._stopped.is_set() else LoopEndedError(f"{task.get_name()} was cancelled from outside")
        if error is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)
            self.exit = caused_by(error)
        self._stopped.set()

    async def _shut_down(self, reason: str) -> None:
        self._lifecycle.move(Lifecycle.DRAINING, reason)
        await self._cancel_background()
        session = self._session
        assert session is not None
        self._host.heartbeat.beat_soon()
        await session.stop_claiming()
        await self._wait_for_handlers(session)
        self._lifecycle.move(Lifecycle.STOPPING, reason)
        session.executor.release_all("the worker stops")
        await session.executor.idle()
        await session.completer.flush(HURRIED_FLUSH_TIMEOUT if self._hurry.is_set() else FLUSH_TIMEOUT)
        await self._end(self.exit or asked_for(reason))

    async def _wait_for_handlers(self, session: WorkerSession) -> None:
        idle = asyncio.ensure_future(session.executor.idle())
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait({idle, hurry}, timeout=self._options.drain_timeout, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        hurry.cancel()

    async def _cancel_background(self) -> None:
        self._winding_down = True
        tasks = tuple(self._background)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _end(self, end: Exit) -> None:
        """Leave no trace: whatever was begun is ended, whether it began well or not."""
        self.exit = self.exit or end
        try:
            await self._leave(self.exit)
        finally:
            self._stopped.set()

    async def _leave(self, end: Exit) -> None:
        await self._cancel_background()
        if self._member is not None:
            await self._host.heartbeat.detach(self._member, mark_stopped=True)
        if self._session is not None:
            await self._session.close()
        if self._unwatch is not None:
            self._unwatch()
        self._lifecycle.move(Lifecycle.STOPPED, end.reason)
        if self._member is not None and self._session is not None:
            duration = time.monotonic() - self._began_at
            self._host.events.emit(WorkerStopped(worker=self._session.info, duration=duration, reason=end.reason))
        if self._unwatch is not None:
            with suppress(DatabaseUnavailableError):
                await self._host.leave()

    def _on_lifecycle(self, previous: Lifecycle, current: Lifecycle, reason: str) -> None:
        self._reason = reason
        if self._session is not None:
            event = LifecycleChanged(worker=self._session.info, previous=previous, current=current, reason=reason)
            self._host.events.emit(event)

    def _on_connection(self, name: str, up: bool, error: str | None, down_for: float) -> None:
        if self._session is None:
            return
        if up:
            self._host.events.emit(DatabaseUp(worker=self._session.info, connection=name, down_for=down_for))
            self._session.completer.try_now()
        else:
            self._host.events.emit(DatabaseDown(worker=self._session.info, connection=name, error=error or ""))

    def _details(self) -> dict[str, object]:
        options = self._options
        return {
            "version": package_version(),
            "max_concurrency": options.max_concurrency,
            "batch_size": options.batch_size,
            "signal_strategy": str(options.signal_strategy),
        }
