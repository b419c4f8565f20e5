"""Runs handlers and turns what happens into outcomes. Touches no database.

A handler may raise anything, never return, swallow its cancellation, block the loop, exit its thread or kill its
process: each ends as an outcome of its attempt, and none of them ends the worker. This is one attempt:

    running ──ended──▶ outcome, slot free
       │ deadline or revoked
       ▼
    ending (the handler is asked to stop) ──ended──▶ outcome, slot free
       │ grace is over
       ▼
    outcome, slot still taken (lingering) ──ended, result ignored──▶ slot free

No supervising task: an attempt costs one asyncio task (or thread) and one timer.
"""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Protocol

from flowworker.database.records import Completed, Failed, Outcome, Released, TaskResult
from flowworker.definition.handler import RunMode
from flowworker.runtime.execution.children import ChildExecution, Children
from flowworker.runtime.execution.contexts import describe_task
from flowworker.runtime.execution.executions import (
    Broken,
    Call,
    Ending,
    Execution,
    LoopExecution,
    Raised,
    Returned,
    ThreadExecution,
)
from flowworker.runtime.execution.failures import STACKTRACE_LIMIT, clean, describe_failure, timed_out
from flowworker.runtime.execution.flow_inputs import RunInputs
from flowworker.runtime.execution.stacks import format_frames
from flowworker.runtime.held_tasks import HeldTask, HeldTasks
from flowworker.runtime.signals import signalled_at, uncharged
from flowworker.runtime.workload import Router, Runnable

CLEANUP_GRACE = 1.0
"""Seconds a handler may take to clean up after it was asked to stop."""


class Superseded:
    """The attempt no longer matters: its fence is lost or its run has ended."""


SUPERSEDED = Superseded()


class AttemptSink(Protocol):
    """Takes what becomes of attempts, on the event loop."""

    def started(self, held_task: HeldTask) -> None:
        """A handler is about to run."""
        ...

    def finished(self, held_task: HeldTask, result: TaskResult) -> None:
        """An attempt has its outcome."""
        ...

    def superseded(self, held_task: HeldTask, duration: float) -> None:
        """An attempt that no longer matters is over, after so many seconds."""
        ...

    def exhausted(self) -> None:
        """The last slot was lost to a handler that is past its end."""
        ...


class Executor:
    """Starts an attempt for each task, and keeps the attempts that run."""

    def __init__(
        self, sink: AttemptSink, *, router: Router, held_tasks: HeldTasks, worker_name: str,
        inputs: RunInputs, clock: Callable[[], float], grace: float = CLEANUP_GRACE,
    ) -> None:  # fmt: skip
        """Wire it up.

        Args:
            sink: takes what becomes of attempts.
            router: finds the handler of a task.
            held_tasks: notified when a slot is freed, or stays taken past the end of its attempt.
            worker_name: for the handlers' logger.
            inputs: inputs of runs, for handlers that want one which the claim did not carry.
            clock: monotonic seconds.
            grace: seconds for a handler to clean up after it was asked to stop.
        """
        self._sink = sink
        self._router = router
        self._held_tasks = held_tasks
        self._children = Children()
        self._worker_name = worker_name
        self._inputs = inputs
        self._clock = clock
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._attempts: dict[int, Attempt] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def launch(self, held_task: HeldTask) -> None:
        """Start the handler of a task just claimed."""
        began = self._clock()
        context = contextvars.copy_context()
        context.run(self._sink.started, held_task)  # subscribers may set variables for the handler
        try:
            execution = self._start(held_task, self._router(held_task.task), context)
        except BaseException as error:  # noqa: BLE001 - a payload that fits no handler, a thread that cannot start
            failed = describe_failure(error, duration=self._clock() - began)
            self._sink.finished(held_task, TaskResult(task=held_task.task, outcome=failed))
            self._held_tasks.vacate(held_task)
            return
        self._idle.clear()
        self._attempts[id(held_task)] = Attempt(
            self, held_task, execution, began=began, clock=self._clock, grace=self._grace
        )

    def supersede(self, held_task: HeldTask, reason: str) -> None:
        """The task is no longer ours: stop its handler and forget what it does."""
        if (attempt := self._attempts.get(id(held_task))) is not None:
            attempt.revoke(SUPERSEDED, reason)

    def release_all(self, reason: str) -> None:
        """Stop every handler; what is unfinished goes back."""
        for attempt in tuple(self._attempts.values()):
            attempt.revoke(Released(reason=reason), reason)

    def supersede_all(self, reason: str) -> None:
        """Stop every handler; nothing it does matters any more."""
        for attempt in tuple(self._attempts.values()):
            attempt.revoke(SUPERSEDED, reason)

    async def idle(self) -> None:
        """Return once every attempt has its outcome; handlers past their end are not waited for."""
        await self._idle.wait()

    async def close(self) -> None:
        """End the processes that wait for a handler; the others end with the execution that uses them."""
        await self._children.close()

    def _start(self, held_task: HeldTask, handler: Runnable, context: contextvars.Context) -> Execution:
        call = Call(
            handler=handler,
            held_task=held_task,
            clock=self._clock,
            worker_name=self._worker_name,
            inputs=self._inputs,
        )
        name = describe_task(held_task.task)
        match handler.mode:
            case RunMode.ASYNC:
                return LoopExecution(call.on_loop, name=name, clock=self._clock, context=context, loop=self._loop)
            case RunMode.THREAD:
                return ThreadExecution(call.in_thread, name=name, clock=self._clock, context=context)
            case RunMode.PROCESS:
                return ChildExecution(
                    self._children, call.reference, call.request, name=name, clock=self._clock, context=context
                )

    def decided(self, held_task: HeldTask, outcome: Outcome | Superseded, duration: float, *, runs_on: bool) -> None:
        """An attempt has its outcome; its handler may run on. Called once, by the attempt."""
        self._attempts.pop(id(held_task), None)
        if runs_on:
            self._held_tasks.linger(held_task)
            if self._held_tasks.exhausted:
                self._sink.exhausted()
        if isinstance(outcome, Superseded):
            self._sink.superseded(held_task, duration)
        else:
            if isinstance(outcome, Failed):
                outcome = uncharged(outcome, signalled=signalled_at(), now=self._clock())
            self._sink.finished(held_task, TaskResult(task=held_task.task, outcome=outcome))
        if not self._attempts:
            self._idle.set()

    def ended(self, held_task: HeldTask) -> None:
        """A handler has really ended, however long after its outcome. Called once, by the attempt."""
        self._held_tasks.vacate(held_task)


class Attempt:
    """Supervises one execution: its deadline, and the single moment at which its outcome is decided."""

    def __init__(
        self, executor: Executor, held_task: HeldTask, execution: Execution, *, began: float,
        clock: Callable[[], float], grace: float,
    ) -> None:  # fmt: skip
        """Arm the deadline of a handler that has just been started.

        Args:
            executor: takes the outcome.
            held_task: the task.
            execution: its handler at work.
            began: monotonic seconds.
            clock: monotonic seconds.
            grace: seconds for cleaning up after being asked to stop.
        """
        self.held_task = held_task
        self._executor = executor
        self._execution = execution
        self._began = began
        self._clock = clock
        self._grace = grace
        self._outcome: Outcome | Superseded | None = None
        self._delivered = False
        self._loop = execution.ended.get_loop()
        self._timer: asyncio.TimerHandle | None = None
        held_task.handle = execution.handle
        execution.ended.add_done_callback(self._on_end)
        if execution.ready is None:
            self._arm()
        else:
            execution.ready.add_done_callback(self._begin)

    def revoke(self, outcome: Released | Superseded, reason: str) -> None:
        """Ask the handler to stop for another reason than its deadline."""
        if self._outcome is None:
            self._finish_early(outcome, reason)

    def _begin(self, ready: "asyncio.Future[None]") -> None:
        if self._outcome is None and not ready.cancelled():
            self._began = self._clock()
            self.held_task.handle = self._execution.handle
            self._arm()

    def _arm(self) -> None:
        timeout = self.held_task.task.timeout
        self.held_task.deadline = self._began + timeout
        self._timer = self._loop.call_later(timeout, self._expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        timeout = self.held_task.task.timeout
        outcome = timed_out(timeout, duration=self._elapsed(), where=self._where())
        self._finish_early(outcome, "timeout")

    def _where(self) -> str | None:
        """Where the handler is now; None where its frames are empty, or cannot be shown."""
        try:
            return clean(format_frames(self._execution.where()), STACKTRACE_LIMIT, keep_end=True) or None
        except Exception:  # noqa: BLE001 - source lines come from the user's files and loaders
            return None

    def _finish_early(self, outcome: Outcome | Superseded, reason: str) -> None:
        self._outcome = outcome
        self._disarm()
        self.held_task.cancelled.set(reason)
        self._execution.stop()
        self._timer = self._loop.call_later(self._grace, self._deliver)

    def _on_end(self, future: "asyncio.Future[Ending]") -> None:
        self._disarm()
        try:
            if not self._delivered:
                if self._outcome is None:
                    self._outcome = self._outcome_of(future)
                self._deliver()
        finally:  # whatever becomes of the outcome, the slot is free
            self._executor.ended(self.held_task)

    def _deliver(self) -> None:
        assert self._outcome is not None
        self._delivered = True
        runs_on = not self._execution.ended.done()
        self._executor.decided(self.held_task, self._outcome, self._elapsed(), runs_on=runs_on)

    def _outcome_of(self, future: "asyncio.Future[Ending]") -> Outcome:
        try:
            return self._describe(_ending(future, self._clock()))
        except BaseException as error:  # noqa: BLE001 - whatever it was: the attempt ends with an outcome
            return describe_failure(error, duration=self._elapsed())

    def _describe(self, ending: Ending) -> Outcome:
        duration = ending.at - self._began
        timeout = self.held_task.task.timeout
        if duration > timeout:  # a blocked loop notices late; the deadline counts all the same
            return timed_out(timeout, duration=duration)
        match ending:
            case Returned(output=output):
                return Completed(output=output, duration=duration)
            case Raised(error=error):
                return describe_failure(error, duration=duration)
            case Broken(failure=failure):
                return failure

    def _elapsed(self) -> float:
        return self._clock() - self._began


def _ending(future: "asyncio.Future[Ending]", now: float) -> Ending:
    """What happened, also for a task that was cancelled before its first step."""
    if future.cancelled():
        return Raised(error=asyncio.CancelledError(), at=now)
    return future.result()
