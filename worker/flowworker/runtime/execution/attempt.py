"""One attempt: an execution, its deadline, and the single moment at which its outcome is decided.

    running ──ended──▶ outcome, slot free
       │ deadline or revoked
       ▼
    ending (the handler is asked to stop) ──ended──▶ outcome, slot free
       │ grace is over
       ▼
    outcome, slot still taken (lingering) ──ended, result ignored──▶ slot free

Callbacks instead of a supervising task: an attempt costs one asyncio task (or thread) and one timer.
"""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from flowworker.database.records import Completed, Outcome, Released
from flowworker.runtime.execution.executions import Broken, Ending, Execution, Raised, Returned
from flowworker.runtime.execution.failures import STACKTRACE_LIMIT, clean, describe_failure, timed_out
from flowworker.runtime.execution.stacks import format_frames
from flowworker.runtime.held_tasks import HeldTask

CLEANUP_GRACE = 1.0
"""Seconds a handler may take to clean up after it was asked to stop."""


class Superseded:
    """The attempt no longer matters: its fence is lost or its run has ended."""


SUPERSEDED = Superseded()

Verdict: TypeAlias = Outcome | Superseded


class Attempt:
    """Supervises one execution."""

    def __init__(
        self, held_task: HeldTask, execution: Execution, *, began: float,
        decided: Callable[[HeldTask, Verdict, float, bool], None], ended: Callable[[HeldTask], None],
        clock: Callable[[], float], grace: float = CLEANUP_GRACE,
    ) -> None:  # fmt: skip
        """Arm the deadline of a handler that has just been started.

        Args:
            held_task: the task.
            execution: its handler at work.
            began: monotonic seconds.
            decided: called once with the outcome, the duration in seconds, and whether the handler still runs.
            ended: called once when the handler has really ended, after `decided`.
            clock: monotonic seconds.
            grace: seconds for cleaning up after being asked to stop.
        """
        self.held_task = held_task
        self._execution = execution
        self._began = began
        self._decided = decided
        self._ended = ended
        self._clock = clock
        self._grace = grace
        self._verdict: Verdict | None = None
        self._delivered = False
        self._loop = execution.ended.get_loop()
        self._timer: asyncio.TimerHandle | None = None
        held_task.handle = execution.handle
        execution.ended.add_done_callback(self._on_end)
        if execution.ready is None:
            self._arm()
        else:
            execution.ready.add_done_callback(self._begin)

    def revoke(self, verdict: Released | Superseded, reason: str, *, patience: float | None = None) -> None:
        """Ask the handler to stop for another reason than its deadline; `patience` replaces the grace."""
        if self._verdict is None:
            self._finish_early(verdict, reason, self._grace if patience is None else patience)

    def _begin(self, ready: "asyncio.Future[None]") -> None:
        if self._verdict is None and not ready.cancelled():
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
        verdict = timed_out(timeout, duration=self._elapsed(), where=self._where())
        self._finish_early(verdict, "timeout", self._grace)

    def _where(self) -> str | None:
        """Where the handler is now; None where its frames are empty, or cannot be shown."""
        try:
            return clean(format_frames(self._execution.where()), STACKTRACE_LIMIT, keep_end=True) or None
        except Exception:  # noqa: BLE001 - source lines come from the user's files and loaders
            return None

    def _finish_early(self, verdict: Verdict, reason: str, grace: float) -> None:
        self._verdict = verdict
        self._disarm()
        self.held_task.cancelled.set(reason)
        self._execution.stop()
        self._timer = self._loop.call_later(grace, self._deliver)

    def _on_end(self, future: "asyncio.Future[Ending]") -> None:
        self._disarm()
        try:
            if not self._delivered:
                if self._verdict is None:
                    self._verdict = self._outcome(future)
                self._deliver()
        finally:  # whatever becomes of the outcome, the slot is free
            self._ended(self.held_task)

    def _deliver(self) -> None:
        assert self._verdict is not None
        self._delivered = True
        self._decided(self.held_task, self._verdict, self._elapsed(), not self._execution.ended.done())

    def _outcome(self, future: "asyncio.Future[Ending]") -> Outcome:
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
