"""A background loop of the heartbeat: it goes on whatever ends one round, and it never ends in silence."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from flowworker.errors import FlowWorkerError

logger = logging.getLogger(__name__)

RESTART_PAUSE = 0.5
"""Seconds before a loop that ended by itself begins again."""


class BackgroundLoop:
    """One concern with a rhythm of its own: `turn` is awaited again and again until `stop`."""

    def __init__(self, name: str, turn: Callable[[], Awaitable[float]], *, clock: Callable[[], float]) -> None:
        """Start nothing yet.

        Args:
            name: of the concern, for the log.
            turn: does the work once; returns the monotonic seconds at which it is due again.
            clock: monotonic seconds.
        """
        self._name = name
        self._turn = turn
        self._clock = clock
        self._hurry = asyncio.Event()
        self._stopping = False
        self._failures = 0
        self._due = clock()
        self.turned_at = clock()
        """Monotonic seconds at which the last round began or ended."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    def hurry(self) -> None:
        """Do not wait until the next round is due."""
        self._hurry.set()

    async def stop(self) -> None:
        """End, in the middle of a round as well."""
        self._stopping = True
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            try:
                await self._go_on()
            except asyncio.CancelledError:
                if self._stopping:
                    raise
                _forget_cancellation()
                logger.exception("%s was cancelled by something else and goes on", self._name)
                self._due = self._clock() + RESTART_PAUSE
            except Exception as error:  # noqa: BLE001 - whatever it was, the heartbeat goes on
                self._note(error)
                self._due = self._clock() + RESTART_PAUSE

    async def _go_on(self) -> None:
        while True:
            await self._rest()
            self.turned_at = self._clock()
            self._due = await self._turn()
            self._failures = 0
            self.turned_at = self._clock()

    async def _rest(self) -> None:
        """Sleep until the next round is due, or something is in a hurry."""
        try:
            async with asyncio.timeout(max(0.0, self._due - self._clock())):
                await self._hurry.wait()
        except TimeoutError:
            return
        self._hurry.clear()

    def _note(self, error: Exception) -> None:
        self._failures += 1
        expected = isinstance(error, FlowWorkerError)
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        logger.log(level, "%s failed: %s", self._name, error, exc_info=None if expected else error)


def _forget_cancellation() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
