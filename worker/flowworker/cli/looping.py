"""The event loop of a worker process, from its making to an end that no handler can prevent."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from flowworker.runtime.event_loop import loop_factory

T = TypeVar("T")

logger = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that tasks left over get to end after their cancellation."""


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like `asyncio.run`, but leave tasks behind that swallow their cancellation.

    `asyncio.run` waits for such a task for ever, and a worker gives up precisely when its handlers do not end.
    """
    runner = asyncio.Runner(loop_factory=loop_factory())
    try:
        return runner.run(main)
    finally:
        if _all_ended(runner.get_loop()):
            runner.close()


def _all_ended(loop: asyncio.AbstractEventLoop) -> bool:
    """Cancel what is left on the loop; whether all of it ended in time."""
    left = asyncio.all_tasks(loop)
    if not left:
        return True
    for task in left:
        task.cancel()
    _, stubborn = loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE))
    if stubborn:
        names = ", ".join(sorted(task.get_name() for task in stubborn))
        logger.warning("handlers that do not end are left behind with the process: %s", names)
        loop.set_exception_handler(lambda _loop, _context: None)  # their destruction would be told as an error
    return not stubborn
