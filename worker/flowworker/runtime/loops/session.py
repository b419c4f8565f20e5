"""A worker's work under one worker id: the loops and what they share.

A worker that was declared dead while it lived drops its session as a whole and begins another one under a new id.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from flowworker.database.records import Completed, Receipt, RunEnd, RunStatus, SourceKind, TaskResult
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.runtime.execution.executor import Executor
from flowworker.runtime.execution.flow_inputs import RunInputs
from flowworker.runtime.exits import SlotsExhaustedError
from flowworker.runtime.held_tasks import HeldTask, HeldTasks
from flowworker.runtime.loops.completer import Completer
from flowworker.runtime.loops.poller import ClaimGate, Poller
from flowworker.runtime.loops.recovery import Rescuer
from flowworker.runtime.loops.settlement import Counters, Settlement
from flowworker.runtime.loops.start_recorder import StartRecorder
from flowworker.runtime.loops.wakeup import Adaptive, Fixed, Wakeup
from flowworker.runtime.source import Source
from flowworker.runtime.workload import Router, Workload, has_dependants
from flowworker.telemetry.events import TaskStarted, WorkerInfo
from flowworker.telemetry.stream import EventStream
from flowworker.worker_options import Strategy, WorkerOptions


class Supervisor(ClaimGate, Protocol):
    """The worker, as its session sees it."""

    def settled(self) -> None:
        """Something that was in flight is not any more."""
        ...

    def crashed(self, error: BaseException) -> None:
        """A loop has ended that never should, or no slot will ever be free again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """What a session is given by its worker."""

    supervisor: Supervisor
    workload: Workload
    router: Router
    worker_name: str
    options: WorkerOptions
    events: EventStream
    counters: Counters
    held_tasks: HeldTasks
    """Outlives a session: handlers of an earlier id may still take slots."""
    clock: Callable[[], float] = time.monotonic
    randomness: random.Random = field(default_factory=random.Random)


class WorkerSession:
    """Everything that belongs to one worker id."""

    def __init__(self, given: SessionContext, *, source: Source, worker_id: UUID) -> None:
        """Wire the parts; nothing runs yet."""
        self.worker_id = worker_id
        self.source = source
        self._given = given
        options = given.options
        self.info = WorkerInfo(worker_id=worker_id, worker_name=given.worker_name, kind=source.kind, slug=source.slug)
        self.held_tasks = given.held_tasks
        self.wakeup = make_wakeup(source.kind, options, clock=given.clock, randomness=given.randomness)
        self.job_timeout = given.workload.options.timeout if isinstance(given.workload, Queue) else None
        """Seconds a job may take, which no table of the database contains; None for a flow."""
        self._inputs = RunInputs(source.flow_input, self._decode_flow_input, randomness=given.randomness.random)
        self._settlement = Settlement(worker=self.info, emit=given.events.emit)
        self._dependants = {slug for slug in _step_slugs(given.workload) if has_dependants(given.workload, slug)}
        self.executor = Executor(
            self,
            router=given.router,
            held_tasks=self.held_tasks,
            worker_name=given.worker_name,
            inputs=self._inputs,
            clock=given.clock,
        )
        on_crash = given.supervisor.crashed
        self.completer = Completer(
            self,
            source=source,
            name=given.worker_name,
            on_crash=on_crash,
            clock=given.clock,
            randomness=given.randomness.random,
        )
        self.start_recorder = StartRecorder(source=source, name=given.worker_name, clock=given.clock, on_crash=on_crash)
        self.poller = Poller(
            given.supervisor,
            source=source,
            held_tasks=self.held_tasks,
            starts=self.start_recorder,
            executor=self.executor,
            wakeup=self.wakeup,
            batch_size=options.batch_size,
            events=given.events,
            info=self.info,
            on_crash=on_crash,
            clock=given.clock,
            randomness=given.randomness.random,
        )
        self.rescuer = Rescuer(
            source=source,
            held_tasks=self.held_tasks,
            events=given.events,
            info=self.info,
            clock=given.clock,
            wakeup=self.wakeup,
            on_crash=on_crash,
            uniform=given.randomness.uniform,
        )

    @property
    def begun_at(self) -> datetime | None:
        """The database's time of the newest claim whose handlers have begun."""
        return self.start_recorder.latest

    @property
    def doubts(self) -> int:
        """Claims that were not answered and may still take effect."""
        return self.source.doubts

    def start(self) -> None:
        """Begin to work."""
        self.completer.start()
        self.start_recorder.start()
        self.poller.start()
        self.rescuer.start()

    async def stop_claiming(self) -> None:
        """Claim and recover nothing more; a claim on its way is waited for."""
        await self.rescuer.stop()
        await self.poller.stop()

    async def close(self) -> None:
        """End everything; what is unwritten stays so."""
        await self.stop_claiming()
        await self.start_recorder.stop()
        await self.completer.stop()
        self._inputs.close()
        await self.executor.close()

    async def abandon(self, reason: str) -> None:
        """Others own what we hold: stop the handlers and write nothing; what a late claim brings is not launched."""
        self.poller.abandon()
        self.executor.supersede_all(reason)
        for held_task in self.completer.forget():
            self.superseded(held_task, 0.0)
        for held_task in self.held_tasks.owned():
            self.held_tasks.disown(held_task)
        await self.close()

    def lose(self, held_tasks: "tuple[HeldTask, ...]", reason: str) -> None:
        """The fence of these is lost: their handlers work for nothing."""
        for held_task in held_tasks:
            self.executor.supersede(held_task, reason)

    # What becomes of attempts: the executor's sink.

    def started(self, held_task: HeldTask) -> None:
        """Emit the event, in the handler's context."""
        self._given.events.emit(TaskStarted(worker=self.info, task=held_task.task))

    def finished(self, held_task: HeldTask, result: TaskResult) -> None:
        """Have the outcome written."""
        self.completer.submit(held_task, result)

    def superseded(self, held_task: HeldTask, duration: float) -> None:
        """Hold the task no longer; nothing is written."""
        self.held_tasks.disown(held_task)
        self._given.counters.superseded += 1
        self._settlement.superseded(held_task, duration)
        self._given.supervisor.settled()

    def exhausted(self) -> None:
        """End the worker: nothing can run here any more."""
        self._given.supervisor.crashed(
            SlotsExhaustedError(
                f"all {self.held_tasks.slots} slots of {self.info.worker_name} are taken by handlers that "
                "are past their deadline and do not end; the process must be started again"
            )
        )

    # What becomes of results: the completer's sink.

    def settled(self, held_task: HeldTask, receipt: Receipt) -> None:
        """Count what the database answered, emit it, and look for what it has made startable."""
        self.held_tasks.disown(held_task)
        self._given.counters.count(receipt)
        self._settlement.of_receipt(held_task, receipt)
        if receipt.retry_in is not None:
            self.wakeup.due_in(receipt.retry_in)
        if isinstance(receipt.result.outcome, Completed) and receipt.result.task.step_slug in self._dependants:
            self.wakeup.nudge()
        self._given.supervisor.settled()

    def run_ended(self, end: RunEnd) -> None:
        """Emit the event; a failed run needs its other handlers no more."""
        self._settlement.of_run(end)
        if end.status is RunStatus.FAILED:
            self.lose(tuple(self.held_tasks.of_run(end.run_id)), "the run has failed")

    def failed(self, error: str) -> None:
        """Remember what kept results from being written."""
        self._given.counters.last_error = error

    def set_aside(self, held_task: HeldTask, aside: bool) -> None:
        """Let a result in trouble keep no others from being claimed."""
        self.held_tasks.set_aside(held_task, aside)

    def _decode_flow_input(self, text: bytes) -> object:
        workload = self._given.workload
        assert isinstance(workload, Flow)
        return workload.decode_input(text)


def make_wakeup(
    kind: SourceKind, options: WorkerOptions, *, clock: Callable[[], float], randomness: random.Random
) -> Wakeup:
    """The wake-up that suits what is served: a queue always has its fixed fallback, a flow what was asked for."""
    least, most = options.min_poll_interval, options.max_poll_interval
    if kind is SourceKind.QUEUE:
        polling: Adaptive | Fixed = Fixed(least)
        fallback = None
    else:
        polling = Adaptive(least, most, randomness.uniform)
        fallback = options.notify_fallback_interval if options.signal_strategy is Strategy.NOTIFY else None
    return Wakeup(
        strategy=options.signal_strategy, polling=polling, fallback=fallback, clock=clock, uniform=randomness.uniform
    )


def _step_slugs(workload: Workload) -> "tuple[str, ...]":
    return tuple(workload.steps) if isinstance(workload, Flow) else ()
