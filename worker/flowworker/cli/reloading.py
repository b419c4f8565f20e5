"""A worker in a child process that starts anew whenever a source file changes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from flowworker.cli.output import note
from flowworker.errors import ExitCode, UsageError

STOP_TIMEOUT = 10.0
"""Seconds a worker may take to finish what it runs before it is killed."""
DEFAULTS = {"FLOWWORKER_SIGNAL_STRATEGY": "notify", "FLOWWORKER_LOG_FORMAT": "console"}
"""Settings that suit a person who watches."""
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Asks Linux for a SIGTERM when the parent dies (PR_SET_PDEATHSIG) and becomes the command: a `dev` that was killed
leaves no worker behind that serves old code."""
COMMAND_LINE = (sys.executable, "-m", "flowworker.cli")
STAGES = (("flows", "compile", "--quiet", "--notify"), ("run",))
HINTS = {
    ExitCode.DATA: "a flow that changes its steps needs a new slug, or a new database: `flowworker dev --reset`",
}


class Child:
    """Commands run one after the other in a process each, as long as each ends well; the last one is the worker."""

    def __init__(self, commands: Sequence[Sequence[str]], environment: dict[str, str]) -> None:
        """Take the command lines and the environment of all of them."""
        self._commands = commands
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[int] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin with the first command."""
        self._stopping = False
        self._life = asyncio.create_task(self._run())

    async def wait(self) -> int:
        """Wait until the last command has ended, or one has failed, and give its exit code."""
        assert self._life is not None
        return await asyncio.shield(self._life)

    async def stop(self) -> None:
        """End what runs: politely first, by force after `STOP_TIMEOUT`."""
        if self._life is None:
            return
        self._stopping = True
        _terminate(self._process)
        done, _ = await asyncio.wait({self._life}, timeout=STOP_TIMEOUT)
        if not done:
            note(f"the worker has not stopped within {STOP_TIMEOUT:g} s; killing it")
            _kill(self._process)
            await self._life

    def hurry(self) -> None:
        """Ask once more, which a worker takes as not to wait for its handlers."""
        _terminate(self._process)

    async def _run(self) -> int:
        code = 0
        for command in self._commands:
            # A session of its own, so that Ctrl-C reaches us alone and we decide what it means for the worker.
            guarded = (sys.executable, "-c", DIE_WITH_PARENT, str(os.getpid()), *command)
            self._process = await asyncio.create_subprocess_exec(
                *guarded, env=self._environment, start_new_session=True
            )
            if self._stopping:
                _terminate(self._process)  # `stop` came while it was being started, and met its predecessor.
            code = await self._process.wait()
            if code != 0 or self._stopping:
                break
        return code


class Reloader:
    """Runs the worker, and starts it anew on every change, until Ctrl-C or SIGTERM."""

    def __init__(self, *, references: Sequence[str], dsn: str, watched: Sequence[Path]) -> None:
        """Take what the worker serves, where, and which paths are watched."""
        environment = {**DEFAULTS, **os.environ, "FLOWWORKER_DATABASE_URL": dsn}
        environment.pop("FLOWWORKER_DATABASE_FILE", None)
        self._child = Child([[*COMMAND_LINE, *words, *references] for words in STAGES], environment)
        self._watched = watched
        self._stop = asyncio.Event()
        self._changed: asyncio.Queue[list[str]] = asyncio.Queue()

    async def run(self) -> None:
        """Serve until stopped by a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop)
        watcher = loop.create_task(self._watch())
        try:
            while not (self._stop.is_set() or watcher.done()):
                self._child.start()
                await self._until_it_is_time_for_another(watcher)
                await self._child.stop()
        finally:
            self._stop.set()
            await self._child.stop()
            await watcher

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._child.hurry()
        else:
            note("stopping when what runs has ended; Ctrl-C again does not wait for it")
            self._stop.set()

    async def _until_it_is_time_for_another(self, watcher: "asyncio.Task[None]") -> None:
        """Wait for a change, or for the end. A worker that ends by itself is not started again before a change."""
        ended = asyncio.ensure_future(self._child.wait())
        changed = asyncio.ensure_future(self._changed.get())
        stopping = asyncio.ensure_future(self._stop.wait())
        others: set[asyncio.Future[Any]] = {changed, stopping, watcher}
        try:
            await asyncio.wait({ended, *others}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not self._stop.is_set():
                note(end_message(ended.result()))
                await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            if changed.done():
                note(f"changed: {', '.join(changed.result())}; starting the worker anew")
        finally:
            for waiting in (ended, changed, stopping):
                waiting.cancel()

    async def _watch(self) -> None:
        async for names in changes(self._watched, self._stop):
            self._changed.put_nowait(names)


def end_message(code: int) -> str:
    """What to say about a worker that ended by itself."""
    hint = next((f"; {text}" for known, text in HINTS.items() if known == code), "")
    return f"the worker ended with code {code}{hint}; waiting for a change"


async def changes(watched: Sequence[Path], stop: asyncio.Event) -> AsyncIterator[list[str]]:
    """Names of the Python files that changed, a list for every burst of changes.

    Raises:
        UsageError: the extra `dev` is not installed.
    """
    try:
        from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType] - its types name trio
    except ImportError as error:
        raise UsageError("reloading needs the extra `dev`: pip install 'flowworker[dev]'") from error
    async for found in awatch(*watched, watch_filter=PythonFilter(), stop_event=stop):
        yield sorted({Path(path).name for _, path in found})


def _terminate(process: asyncio.subprocess.Process | None) -> None:
    if process is not None and process.returncode is None:
        process.terminate()


def _kill(process: asyncio.subprocess.Process | None) -> None:
    if process is not None and process.returncode is None:
        process.kill()
