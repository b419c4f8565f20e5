"""Notices when the worker's event loop stands still, from the heartbeat's thread, and finds out who holds it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from flowworker.runtime.execution.stacks import format_frames, thread_frames

CHECK_INTERVAL = 0.5
"""Seconds between two looks."""

BLOCKED_AFTER = 1.0
"""Seconds without an answer after which the loop counts as blocked."""

REPORT_FACTOR = 2.0
"""The next report comes when the loop has been blocked this many times as long as at the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blockage:
    """The loop does not run."""

    task: "asyncio.Task[object] | None"
    """The asyncio task whose step does not return."""
    blocked_for: float
    """Seconds."""
    stack: str


class LoopWatch:
    """Asks the loop for an answer again and again."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, thread_id: int, on_blocked: Callable[[Blockage], None],
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        """Watch a loop.

        Args:
            loop: the loop watched.
            thread_id: of the thread that runs it.
            on_blocked: called, in the watching thread, with each report.
            clock: monotonic seconds.
        """
        self._loop = loop
        self._thread_id = thread_id
        self._on_blocked = on_blocked
        self._clock = clock
        self._asked: float | None = None
        self._looked_at = clock()
        self._next_report = BLOCKED_AFTER

    @property
    def looked_at(self) -> float:
        """Monotonic seconds of the last look: shows that the watching thread's own loop runs."""
        return self._looked_at

    @property
    def blocked_for(self) -> float:
        """Seconds for which the loop has not answered; 0 when it runs."""
        asked = self._asked
        waited = 0.0 if asked is None else self._clock() - asked
        return waited if waited > BLOCKED_AFTER else 0.0

    async def run(self) -> None:
        """Watch until the loop is closed."""
        while self._ask():
            await asyncio.sleep(CHECK_INTERVAL)
            self._looked_at = self._clock()
            self._check()

    def _ask(self) -> bool:
        if self._asked is not None:
            return True
        self._asked = self._clock()
        self._next_report = BLOCKED_AFTER
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:
            return False
        return True

    def _answer(self) -> None:
        self._asked = None

    def _check(self) -> None:
        blocked_for = self.blocked_for
        if blocked_for > self._next_report:
            self._next_report = blocked_for * REPORT_FACTOR
            self._on_blocked(
                Blockage(task=asyncio.current_task(self._loop), blocked_for=blocked_for, stack=self._stack())
            )

    def _stack(self) -> str:
        return format_frames(thread_frames(self._thread_id))
