"""Runs handlers and turns what happens into outcomes. Touches no database.

A handler may raise anything, never return, swallow its cancellation, block the loop, exit its thread or kill its
process: each ends as an outcome of its attempt, and none of them ends the worker.
"""

import asyncio
import contextvars
from collections.abc import Callable

from flowworker.database.records import Failed, Released, TaskResult
from flowworker.definition.handler import RunMode
from flowworker.runtime.execution.attempt import CLEANUP_GRACE, SUPERSEDED, Attempt, Superseded, Verdict
from flowworker.runtime.execution.calls import Call
from flowworker.runtime.execution.children import ChildExecution, Children
from flowworker.runtime.execution.contexts import describe_task
from flowworker.runtime.execution.executions import Execution, LoopExecution, ThreadExecution
from flowworker.runtime.execution.failures import describe_failure
from flowworker.runtime.execution.flow_inputs import RunInputs
from flowworker.runtime.held_tasks import HeldTask, HeldTasks
from flowworker.runtime.signals import signalled_at, uncharged
from flowworker.runtime.workload import Router, Runnable


class Executor:
    """Starts an attempt for each task, and keeps the attempts that run."""

    def __init__(
        self, *, router: Router, held_tasks: HeldTasks, children: Children, worker_name: str,
        inputs: RunInputs,
        on_start: Callable[[HeldTask], None], on_result: Callable[[HeldTask, TaskResult], None],
        on_superseded: Callable[[HeldTask, float], None], on_vacated: Callable[[], None],
        clock: Callable[[], float], grace: float = CLEANUP_GRACE,
    ) -> None:  # fmt: skip
        """Wire it up.

        Args:
            router: finds the handler of a task.
            held_tasks: notified when a slot is freed, or stays taken past the end of its attempt.
            children: processes for handlers that want one.
            worker_name: for the handlers' logger.
            inputs: inputs of runs, for handlers that want one which the claim did not carry.
            on_start: called when a handler is about to run.
            on_result: takes each outcome.
            on_superseded: called instead for attempts that no longer matter, with their duration.
            on_vacated: called when a slot was freed or is lost to a handler past its end.
            clock: monotonic seconds.
            grace: seconds for a handler to clean up after it was asked to stop.
        """
        self._router = router
        self._held_tasks = held_tasks
        self._children = children
        self._worker_name = worker_name
        self._inputs = inputs
        self._on_start = on_start
        self._on_result = on_result
        self._on_superseded = on_superseded
        self._on_vacated = on_vacated
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
        context.run(self._on_start, held_task)  # subscribers may set variables for the handler
        try:
            execution = self._start(held_task, self._router(held_task.task), context)
        except BaseException as error:  # noqa: BLE001 - a payload that fits no handler, a thread that cannot start
            failed = describe_failure(error, duration=self._clock() - began)
            self._on_result(held_task, TaskResult(task=held_task.task, outcome=failed))
            self._vacate(held_task)
            return
        self._idle.clear()
        self._attempts[id(held_task)] = Attempt(
            held_task, execution, began=began, decided=self._decided, ended=self._vacate, clock=self._clock,
            grace=self._grace,
        )  # fmt: skip

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

    def _decided(self, held_task: HeldTask, verdict: Verdict, duration: float, runs_on: bool) -> None:
        self._attempts.pop(id(held_task), None)
        if runs_on:
            self._held_tasks.linger(held_task)
            self._on_vacated()
        if isinstance(verdict, Superseded):
            self._on_superseded(held_task, duration)
        else:
            failed = isinstance(verdict, Failed)
            outcome = uncharged(verdict, signalled=signalled_at(), now=self._clock()) if failed else verdict
            self._on_result(held_task, TaskResult(task=held_task.task, outcome=outcome))
        if not self._attempts:
            self._idle.set()

    def _vacate(self, held_task: HeldTask) -> None:
        self._held_tasks.vacate(held_task)
        self._on_vacated()
