"""Child processes for handlers that want one: a timeout can kill them, and they may use a core of their own.

A child runs one handler at a time and is kept for the next one. It dies with its worker: it watches the pipe. It leads
a session of its own, and whatever its handlers started ends with it.
"""

import asyncio
import contextlib
import contextvars
import signal
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType

from flowworker.database.records import Failed, FailureKind
from flowworker.definition.place import HandlerReference
from flowworker.redaction import current_discretion
from flowworker.runtime.execution.executions import Broken, Clock, Ending, Raised, Returned
from flowworker.runtime.execution.families import kill_family
from flowworker.runtime.execution.frames import LENGTH, Answer, Frame, Greeting, Prepare, Request, pack, unpack
from flowworker.stop_signals import STOP_SIGNALS
from flowworker.telemetry.logs import current_form

START_TIMEOUT = 120.0
"""Seconds for a child to start and to import its handler."""

STARTS = 3
"""Children tried for one attempt when a stop signal ends them before they can ignore it."""

DEATH_CHECK = 0.5
"""Seconds between two looks whether a child that does not answer has died. The pipe says so at once, unless something
that the handler forked without Python's knowledge holds its other end open."""

EXIT_GRACE = 1.0
"""Seconds for a child to end by itself, and say how, after it has closed the wire."""

CHILD_MODULE = "flowworker.runtime.execution.child_main"


class ChildDiedError(Exception):
    """A child ended without an answer."""

    def __init__(self, exit_code: int) -> None:
        """Take the exit code as asyncio gives it: negative for a signal."""
        self.exit_code = exit_code
        super().__init__(f"the handler's process {in_words(exit_code)}")

    @property
    def by_stop_signal(self) -> bool:
        """Whether a signal did it that was meant for the worker."""
        return -self.exit_code in STOP_SIGNALS


class Child:
    """One child process."""

    def __init__(self, process: Process) -> None:
        """Take a process that was just started."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._prepared: set[HandlerReference] = set()
        self._ended = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take a request: it runs, and nothing kills it."""
        return self._process.returncode is None and not self._ended

    async def prepare(self, reference: HandlerReference) -> Answer | None:
        """Let it import a handler, once; None when it could, else why not."""
        if reference in self._prepared:
            return None
        answer = await self.ask(Prepare(reference=reference))
        if isinstance(answer.result, Failed):
            return answer
        self._prepared.add(reference)
        return None

    async def ask(self, frame: Prepare | Request) -> Answer:
        """Send a frame and wait for its answer.

        Raises:
            ChildDiedError: it ended instead.
        """
        await self.send(frame)
        return await self.answer()

    async def send(self, frame: Frame) -> None:
        """Write a frame; a child that has died is noticed by `answer`."""
        with contextlib.suppress(ConnectionError):
            self._stdin.write(pack(frame))
            await self._stdin.drain()

    async def answer(self) -> Answer:
        """Wait for the answer to the request.

        Raises:
            ChildDiedError: it ended instead.
        """
        reading = asyncio.ensure_future(self._read())
        try:
            while not reading.done():
                await asyncio.wait({reading}, timeout=DEATH_CHECK)
                if not self.alive:
                    self._end_family()
            return reading.result()
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ChildDiedError(await self._exit_code()) from None
        finally:
            reading.cancel()

    def kill(self) -> None:
        """End it at once, with everything it started."""
        if self.alive:
            self._end_family()

    async def reap(self) -> None:
        """Kill it and collect its exit code."""
        self.kill()
        await self._process.wait()
        self._stdin.close()

    async def _exit_code(self) -> int:
        """How it ended, after it has closed the wire."""
        waiting = asyncio.ensure_future(self._process.wait())
        await asyncio.wait({waiting}, timeout=EXIT_GRACE)
        self._end_family()
        return await waiting

    def _end_family(self) -> None:
        """Kill what there is of it, now: later its number may be another process's.

        In a thread, because a long table of processes takes a while to read.
        """
        if not self._ended:
            self._ended = True
            threading.Thread(target=kill_family, args=(self.pid,), name="flowworker-kill", daemon=True).start()

    async def _read(self) -> Answer:
        (length,) = LENGTH.unpack(await self._stdout.readexactly(LENGTH.size))
        return unpack(await self._stdout.readexactly(length))


class Children:
    """The children of one worker: idle ones are used again, the last one first."""

    def __init__(self) -> None:
        self._idle: list[Child] = []

    async def take(self) -> Child:
        """An idle child, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                return child
            await child.reap()
        # -P: a user's queue.py or signal.py in the current folder is not what the child's own imports mean.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", CHILD_MODULE, stdin=PIPE, stdout=PIPE, start_new_session=True
        )
        child = Child(process)
        await child.send(Greeting(sys_path=tuple(sys.path), discretion=current_discretion(), log_form=current_form()))
        return child

    def give_back(self, child: Child) -> None:
        """Keep a child for the next handler."""
        self._idle.append(child)

    async def close(self) -> None:
        """End all idle children; the others end with the execution that uses them."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(child.reap() for child in idle))


class ChildExecution:
    """A handler in a child process. Its time begins when the child is up and has imported the handler."""

    def __init__(
        self,
        children: Children,
        reference: HandlerReference,
        request: Callable[[], Awaitable[Request]],
        *,
        name: str,
        clock: Clock,
        context: contextvars.Context,
    ) -> None:
        """Take a child and send it the request.

        Args:
            children: where the child comes from.
            reference: the handler.
            request: made when the child is ready.
            name: of the asyncio task that waits for the answer.
            clock: monotonic seconds.
            context: in which the task runs.
        """
        self._children = children
        self._reference = reference
        self._request = request
        self._clock = clock
        self._child: Child | None = None
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] | None = loop.create_future()
        self._task = loop.create_task(self._run(self.ready), name=name, context=context)

    @property
    def ended(self) -> "asyncio.Future[Ending]":
        return self._task

    @property
    def handle(self) -> object:
        return self._task if self._child is None else self._child

    def stop(self) -> None:
        if self._child is None:
            self._task.cancel()
        else:
            self._child.kill()

    def where(self) -> Sequence[FrameType]:
        return ()

    async def _run(self, ready: "asyncio.Future[None]") -> Ending:
        began = self._clock()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                child, answer = await self._prepared_child()
            if answer is None:
                began = self._clock()
                ready.set_result(None)
                answer = await child.ask(await self._request())
        except ChildDiedError as death:
            return Broken(failure=_died(death, self._clock() - began), at=self._clock())
        except BaseException as error:  # noqa: BLE001 - no process could be started, or we were cancelled
            if self._child is not None:
                self._child.kill()
            return Raised(error=error, at=self._clock())
        self._child = None  # the next handler's from now on: no stop of this one may kill it
        self._children.give_back(child)
        return _ending(answer, self._clock())

    async def _prepared_child(self) -> tuple[Child, Answer | None]:
        """A child that has imported the handler, or its answer why it could not."""
        for left in reversed(range(STARTS)):
            self._child = child = await self._children.take()
            try:
                return child, await child.prepare(self._reference)
            except ChildDiedError as death:
                if left == 0 or not death.by_stop_signal:
                    raise
        raise AssertionError("the last start gives a child or raises")


def in_words(exit_code: int) -> str:
    """How a process ended."""
    if exit_code >= 0:
        return f"exited with code {exit_code} before it answered"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = "an unknown signal"
    hint = ", as the kernel does when memory runs out" if -exit_code == signal.SIGKILL else ""
    return f"was killed by {name} (signal {-exit_code}){hint}"


def _died(death: ChildDiedError, duration: float) -> Failed:
    return Failed(kind=FailureKind.EXIT, message=str(death), stacktrace=None, duration=duration)


def _ending(answer: Answer, now: float) -> Ending:
    match answer.result:
        case bytes() as output:
            return Returned(output=output, at=now)
        case Failed() as failure:
            return Broken(failure=failure, at=now)
