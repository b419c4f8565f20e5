"""One call of a handler, and the handler at work on the event loop or in a thread; `children` runs it in a process.

A call decodes, calls and encodes, in whichever of the three places it runs. Each execution has one future, `ended`,
that never carries an exception: what the handler did is a value, whatever it raised. It completes when the handler has
really ended, however long after its deadline that may be.
"""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol, TypeAlias, cast

from flowworker.database.records import Failed
from flowworker.definition.child import ChildContext
from flowworker.definition.context import TaskContext
from flowworker.definition.handler import Handler
from flowworker.definition.place import HandlerReference
from flowworker.runtime.execution.contexts import make_context
from flowworker.runtime.execution.flow_inputs import RunInputs
from flowworker.runtime.execution.forks import NoCopyReturns
from flowworker.runtime.execution.frames import Request
from flowworker.runtime.execution.stacks import awaiting_frames, thread_frames
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.workload import Runnable
from flowworker.telemetry.json_lines import running

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A handler with the task it is to run."""

    handler: Runnable
    held_task: HeldTask
    clock: Callable[[], float]
    """Monotonic seconds; used where the deadline is not yet set."""
    worker_name: str
    inputs: RunInputs

    @property
    def reference(self) -> HandlerReference:
        """Where a child process finds the handler."""
        return cast("Handler", self.handler).location

    async def on_loop(self) -> bytes:
        """Run a coroutine function."""
        arguments = self.handler.decode(self.held_task.task.input, await self._flow_input())
        return self.handler.encode(await self.handler.call(arguments, self._context_if_wanted()))

    def in_thread(self) -> bytes:
        """Run a plain function; called in its thread."""
        flow_input = self.inputs.loop_result(self._flow_input()) if self._must_load else self.held_task.task.flow_input
        arguments = self.handler.decode(self.held_task.task.input, flow_input)
        return self.handler.encode(self.handler.call(arguments, self._context_if_wanted()))

    async def request(self) -> Request:
        """What a child process needs to run it."""
        return Request(
            reference=self.reference,
            input=self.held_task.task.input,
            flow_input=await self._flow_input(),
            context=ChildContext.of(self._context()),
            ids=running.get(),
        )

    @property
    def _must_load(self) -> bool:
        return self.handler.needs_flow_input and self.held_task.task.flow_input is None

    async def _flow_input(self) -> bytes | None:
        task = self.held_task.task
        if not self._must_load or task.run_id is None:
            return task.flow_input
        return await self.inputs.raw(task.run_id)

    def _context_if_wanted(self) -> TaskContext | None:
        return self._context() if self.handler.wants_context else None

    def _context(self) -> TaskContext:
        deadline = self.held_task.deadline or self.clock() + self.held_task.task.timeout
        return make_context(
            self.held_task, deadline=deadline, worker_name=self.worker_name, load_flow_input=self.inputs.decoded
        )


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
