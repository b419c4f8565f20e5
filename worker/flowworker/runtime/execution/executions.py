"""A handler at work on the event loop or in a thread; `children` runs it in a process.

Each execution has one future, `ended`, that never carries an exception: what the handler did is a value, whatever it
raised. It completes when the handler has really ended, however long after its deadline that may be.
"""

import asyncio
import contextvars
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Protocol, TypeAlias

from flowworker.database.records import Failed
from flowworker.runtime.execution.stacks import awaiting_frames, thread_frames

logger = logging.getLogger(__name__)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The handler returned, and its output could be encoded."""

    output: bytes
    at: float
    """Monotonic seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """The handler raised; `BaseException` because it may raise anything."""

    error: BaseException
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The handler's process reported a failure, or died."""

    failure: Failed
    at: float


Ending: TypeAlias = Returned | Raised | Broken


class Execution(Protocol):
    """One handler at work."""

    @property
    def ready(self) -> "asyncio.Future[None] | None":
        """Completes when the handler's time begins; None when it has begun."""
        ...

    @property
    def ended(self) -> "asyncio.Future[Ending]": ...

    @property
    def handle(self) -> object:
        """The task, thread or process, for people who look."""
        ...

    def stop(self) -> None:
        """Make it end as far as its kind allows: cancel the coroutine, kill the process, nothing for a thread."""
        ...

    def where(self) -> Sequence[FrameType]:
        """The frames it is in now, outermost first; empty where that cannot be known."""
        ...


class LoopExecution:
    """A coroutine on the worker's event loop."""

    ready: "asyncio.Future[None] | None" = None

    def __init__(
        self, work: Callable[[], Awaitable[bytes]], *, name: str, clock: Clock, context: contextvars.Context,
        loop: asyncio.AbstractEventLoop,
    ) -> None:  # fmt: skip
        """Start it as an asyncio task of this name, in this context, on this loop."""
        self._task = loop.create_task(_guard(work, clock), name=name, context=context)

    @property
    def ended(self) -> "asyncio.Future[Ending]":
        return self._task

    @property
    def handle(self) -> object:
        return self._task

    def stop(self) -> None:
        self._task.cancel()

    def where(self) -> Sequence[FrameType]:
        return awaiting_frames(self._task.get_coro())


class ThreadExecution:
    """A plain function in a daemon thread of its own, so that a stuck one blocks neither a pool nor the exit."""

    ready: "asyncio.Future[None] | None" = None

    def __init__(self, work: Callable[[], bytes], *, name: str, clock: Clock, context: contextvars.Context) -> None:
        """Start a thread of this name, in this context."""
        self._work = work
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Ending] = self._loop.create_future()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True)
        self._thread.start()

    @property
    def handle(self) -> object:
        return self._thread

    def stop(self) -> None:
        return

    def where(self) -> Sequence[FrameType]:
        return thread_frames(self._thread.ident)

    def _run(self) -> None:
        try:
            with NoCopyReturns():
                ending: Ending = Returned(output=self._work(), at=self._clock())
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end the attempt, nothing else
            ending = Raised(error=error, at=self._clock())
        try:
            self._loop.call_soon_threadsafe(self._deliver, ending)
        except RuntimeError:  # the loop is closed: no coroutine waits for this any more
            return

    def _deliver(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)


async def _guard(work: Callable[[], Awaitable[bytes]], clock: Clock) -> Ending:
    """Turn whatever happens into a value; asyncio would let SystemExit and KeyboardInterrupt end the whole loop."""
    try:
        with NoCopyReturns():
            return Returned(output=await work(), at=clock())
    except BaseException as error:  # noqa: BLE001 - see above; also GeneratorExit, which a handler may raise, too
        return Raised(error=error, at=clock())


class NoCopyReturns:
    """Ends a process that the block forked and that would go on as a second worker on the same connections."""

    __slots__ = ("_forks_before",)

    def __enter__(self) -> None:
        self._forks_before = _forks

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _forks == self._forks_before:
            return
        if error is not None:
            logger.error("a process forked by a handler ends with an exception", exc_info=error)
        os._exit(0 if error is None else 1)


_forks = 0
"""Forks between the first process and this one. Cheaper to look at than the process id, which is a system call."""


def _count_fork() -> None:
    global _forks  # it describes the process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)
