"""Who may use a connection: one at a time, in order of arrival, or the first of two connections to be free.

What is urgent goes first, but never twice in a row while others wait. A lock of asyncio knows no such order. It cannot
say which of two is free first without a task for each, and between two holders it looks free.
"""

import asyncio
import contextlib
from collections import deque
from typing import TypeAlias

Waiter: TypeAlias = "asyncio.Future[Turns]"
"""Gets the turns that gave it one. It may wait at several, of which one does."""


class Turns:
    """Of one connection; belongs to the event loop that uses it first."""

    def __init__(self) -> None:
        """Be free."""
        self._taken = False
        self._waiting: deque[Waiter] = deque()
        self._urgent: deque[Waiter] = deque()
        self._went_first = False

    @property
    def taken(self) -> bool:
        """Whether it is some work's turn."""
        return self._taken

    def end(self) -> None:
        """The turn is over; the next that waits has one."""
        while self._waiting or self._urgent:
            waiter = self._next()
            if not waiter.done():
                waiter.set_result(self)
                return
        self._taken = False

    def give(self, waiter: Waiter, *, urgent: bool = False) -> None:
        """Give it a turn, now or when those before it have had theirs, unless it has one elsewhere by then."""
        if waiter.done():
            return
        if self._taken:
            (self._urgent if urgent else self._waiting).append(waiter)
        else:
            self._taken = True
            waiter.set_result(self)

    def forget(self, waiter: Waiter) -> None:
        """It does not wait here any more."""
        for line in (self._waiting, self._urgent):
            with contextlib.suppress(ValueError):
                line.remove(waiter)

    def _next(self) -> Waiter:
        self._went_first = bool(self._urgent) and not (self._went_first and self._waiting)
        return (self._urgent if self._went_first else self._waiting).popleft()


async def turn_at(turns: Turns, *, urgent: bool = False) -> None:
    """Wait for a turn; the work that gets one has to `end` it."""
    await first_turn(turns, turns, after=0.0, urgent=urgent)


async def first_turn(turns: Turns, others: Turns, *, after: float, urgent: bool = False) -> Turns:
    """Wait for the first turn to be had, at `others` only after so many seconds; returns where it is."""
    loop = asyncio.get_running_loop()
    waiter: Waiter = loop.create_future()
    turns.give(waiter, urgent=urgent)
    if waiter.done():
        return turns
    timer = None if others is turns else loop.call_later(after, others.give, waiter)
    try:
        return await waiter
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled():
            waiter.result().end()
        raise
    finally:
        if timer is not None:
            timer.cancel()
        turns.forget(waiter)
        others.forget(waiter)
