"""The processes under measurement: the real `flowworker run`, and the floor."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from flowworker.database.connection import Connection
from flowworker.database.statements import load
from flowworker.errors import InternalError

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
SETTLING = 1.0
"""Seconds between a worker's registration and the moment at which it listens and waits."""

LOG_TAIL = 2000
NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"
BYTE_CODE = "byte_code"
"""Folder of the measured processes' byte code, below that of their logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A process with its log."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    def check(self) -> None:
        """Raise when it has ended.

        Raises:
            InternalError: with the end of its log.
        """
        if self.process.returncode is not None:
            text = self.log.read_text(errors="replace")[-LOG_TAIL:]
            raise InternalError(f"a measured process ended with exit code {self.process.returncode}:\n{text}")

    async def hear(self, word: str) -> None:
        """Wait until it says a word."""
        assert self.process.stdout is not None
        said = (await self.process.stdout.readline()).decode().strip()
        if said != word:
            await self.process.wait()
            self.check()

    def send(self, word: str) -> None:
        """Write a word to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())


@asynccontextmanager
async def floor(kind: str, *, dsn: str, batch: int, tasks: int, folder: Path) -> AsyncGenerator[Subject]:
    """A floor that waits for its `go`."""
    command = ("flowworker.bench.floor", kind, str(batch), str(tasks))
    async with _started(command, dsn=dsn, log=folder / "floor.log") as subject:
        await subject.hear("ready")
        yield subject


@asynccontextmanager
async def worker(
    workload: str, *, slug: str, dsn: str, folder: Path, observer: Connection, options: Sequence[str] = ()
) -> AsyncGenerator[Subject]:
    """A worker process that is registered and waits for work."""
    command = ("flowworker.cli", "run", f"flowworker.bench.workloads:{workload}", *options)
    async with _started(command, dsn=dsn, log=folder / f"{slug}.log") as subject:
        async with asyncio.timeout(START_TIMEOUT):
            while not await observer.fetchval(load("bench/running"), slug):
                subject.check()
                await asyncio.sleep(0.05)
        await asyncio.sleep(SETTLING)
        yield subject


async def warm_up(folder: Path) -> None:
    """Have the byte code made before anything is measured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flowworker.cli", "run", "--help",
        env=environment(os.environ, dsn="", byte_code=folder / BYTE_CODE), stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await process.wait()


@asynccontextmanager
async def _started(command: Sequence[str], *, dsn: str, log: Path) -> AsyncGenerator[Subject]:
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, env=environment(os.environ, dsn=dsn, byte_code=log.parent / BYTE_CODE),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=sink,
        )  # fmt: skip
    try:
        yield Subject(process=process, log=log)
    finally:
        await _end(process)


def environment(inherited: Mapping[str, str], *, dsn: str, byte_code: Path) -> dict[str, str]:
    """The environment of a measured process.

    Byte code is kept, as any installed package has it: to compile everything at each start costs memory that stays.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(("FLOWWORKER_", NO_BYTE_CODE))}
    return {**kept, "FLOWWORKER_DATABASE_URL": dsn, "PYTHONPYCACHEPREFIX": str(byte_code)}


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
