"""Runs coroutines for tests that are plain functions."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from flowworker.errors import UsageError

T = TypeVar("T")


def run_blocking(work: Coroutine[Any, Any, T], name: str) -> T:
    """Run a coroutine to its end on an event loop of its own.

    Args:
        work: what to run.
        name: of the blocking function, for the message.

    Raises:
        UsageError: an event loop runs already in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # A loop factory leaves the thread's own event loop, if a test has set one, alone.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(work)
    work.close()
    raise UsageError(f"{name}() would block the event loop of this test: use `await {name}_async(...)` instead")
