"""The event loop of a worker process, from its making to an end that no handler can prevent."""

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from flowworker.runtime.host import loop_factory

T = TypeVar("T")

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that tasks left over get to end after their cancellation; and threads after them."""


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like `asyncio.run`, but leave behind tasks that swallow their cancellation, and threads.

    `asyncio.run` waits for such a task for ever, and a worker gives up precisely when its handlers do not end; and for
    every `asyncio.to_thread`, however long it takes. It also ends when any task raises SystemExit or KeyboardInterrupt,
    such as one that a handler has started: here that is an error of the handler, and the loop goes on.
    """
    runner = asyncio.Runner(loop_factory=loop_factory())
    executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
    runner.get_loop().set_default_executor(executor)
    try:
        return _run(runner, main)
    finally:
        tasks_ended = _tasks_ended(runner.get_loop())
        executor.shutdown(wait=False, cancel_futures=True)
        if _threads_ended() and tasks_ended:
            runner.close()


def _run(runner: asyncio.Runner, main: Coroutine[Any, Any, T]) -> T:
    loop = runner.get_loop()
    task = loop.create_task(main, name="main")
    try:
        return runner.run(_result_of(task))
    except (SystemExit, KeyboardInterrupt) as error:
        reason = error
    while not task.done():
        logger.error("a task raised %r, which ends neither the process nor its workers", reason, exc_info=reason)
        try:
            loop.run_until_complete(asyncio.wait({task}))
        except (SystemExit, KeyboardInterrupt) as error:
            reason = error
    return task.result()


async def _result_of(task: "asyncio.Task[T]") -> T:
    return await task


def _tasks_ended(loop: asyncio.AbstractEventLoop) -> bool:
    """Cancel what is left on the loop; whether all of it ended in time."""
    left = asyncio.all_tasks(loop)
    if not left:
        return True
    for task in left:
        task.cancel()
    _, stubborn = loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE))
    if stubborn:
        _report("handlers", [task.get_name() for task in stubborn])
        loop.set_exception_handler(lambda _loop, _context: None)  # their destruction would be logged as an error
    return not stubborn


def _threads_ended() -> bool:
    """Whether the threads that the end of the process would wait for have ended in time."""
    deadline = time.monotonic() + PATIENCE
    for thread in _threads():
        thread.join(max(0.0, deadline - time.monotonic()))
    stubborn = _threads()
    if stubborn:
        _report("threads", [thread.name for thread in stubborn])
    return not stubborn


def _threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]


def _report(what: str, names: Sequence[str]) -> None:
    logger.warning("%s that do not end are left behind with the process: %s", what, ", ".join(sorted(names)))
