"""Patience with a deadline: tests wait for conditions, never for time to pass."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a condition that has not come true fails the test."""

LOOK_EVERY = 0.05
"""Seconds between two looks."""


async def until(
    condition: Callable[[], T | None] | Callable[[], Awaitable[T | None]],
    what: str,
    *,
    patience: float = PATIENCE,
    every: float = LOOK_EVERY,
) -> T:
    """The first true answer of a condition, which may be a coroutine function and is asked every so many seconds.

    Raises:
        AssertionError: it did not come true in time; says what was waited for.
    """
    deadline = time.monotonic() + patience
    while True:
        asked = condition()
        answer = cast("T | None", await asked if isinstance(asked, Awaitable) else asked)
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain: {what}")
        await asyncio.sleep(every)


async def hold_for(seconds: float) -> None:
    """Keep a fault in force: the duration of an outage is the very thing under test."""
    await asyncio.sleep(seconds)
