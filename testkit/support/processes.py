"""Real processes of ours: started as people start them, then killed, frozen, thawed and stopped."""

import asyncio
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from testkit.support import journal
from testkit.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
COMMAND_LINE = "flowworker.cli"
"""The module that is run unless another launcher is asked for."""

SEVERE = frozenset({"error", "critical"})

QUICK = {"MIN_POLL_INTERVAL": "0.1", "MAX_POLL_INTERVAL": "0.5", "LOG_FORMAT": "json", "LOG_LEVEL": "debug"}


@dataclass(slots=True, kw_only=True)
class ServiceProcess(ABC):
    """One process that serves until it is stopped, and logs into a file of its folder."""

    name: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict[str, str])
    """More of its environment, without the prefix."""
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @abstractmethod
    async def launch(self) -> None:
        """Start it, however that goes."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """Whether it has begun to serve."""

    async def start(self) -> None:
        """Start it, and return once it serves."""
        await self.launch()
        await until(self._serves, f"{self.name} serves")

    @property
    def log_path(self) -> Path:
        """Where its standard error goes."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process is not None and self._process.returncode is None

    def send_signal(self, number: signal.Signals) -> int:
        """Send a signal; returns the monotonic nanoseconds of it."""
        assert self._process is not None
        self._process.send_signal(number)
        return time.monotonic_ns()

    def kill(self) -> int:
        """SIGKILL; returns the monotonic nanoseconds of it."""
        return self.send_signal(signal.SIGKILL)

    def freeze(self) -> int:
        """SIGSTOP, as a paused machine would look; returns the monotonic nanoseconds of it."""
        return self.send_signal(signal.SIGSTOP)

    def thaw(self) -> int:
        """SIGCONT; returns the monotonic nanoseconds of it."""
        return self.send_signal(signal.SIGCONT)

    async def stop(self) -> int:
        """SIGTERM; its exit code once it has ended."""
        self.send_signal(signal.SIGTERM)
        return await self.ended(15)

    async def ended(self, patience: float = 30.0) -> int:
        """Its exit code once it has ended."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), patience)

    async def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def log(self) -> str:
        """Everything it has written."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def complaints(self) -> list[str]:
        """Log lines that should not be there: errors, and whatever is no log line."""
        return [line for line in self.log().splitlines() if _is_complaint(line)]

    async def _run(self, *arguments: str, environment: Mapping[str, str]) -> None:
        """Run Python with these arguments; of our own environment it gets what is not about FlowWorker."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWWORKER_")}
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                env={**kept, **environment}, cwd=ROOT, start_new_session=True,
            )  # fmt: skip

    async def _serves(self) -> bool:
        if not self.running:
            raise AssertionError(f"{self.name} ended at its start:\n{self.log()[-3000:]}")
        return await self.is_ready()


@dataclass(slots=True, kw_only=True)
class WorkerProcess(ServiceProcess):
    """One worker process, known to journal and audit by its name."""

    dsn: str
    arguments: tuple[str, ...]
    launcher: str = COMMAND_LINE
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """More of its environment, as it is."""

    async def launch(self) -> None:
        """Start it, however that goes."""
        settings = {"DATABASE_URL": self.dsn, "POD_NAME": self.name, "WORKER_NAME": self.name, **QUICK, **self.settings}
        ours = {f"FLOWWORKER_{name}": value for name, value in settings.items()}
        witness = {journal.FOLDER_VARIABLE: str(self.folder), journal.NAME_VARIABLE: self.name}
        environment = {**ours, **witness, **self.environment}
        await self._run("-m", self.launcher, "run", *self.arguments, environment=environment)

    async def is_ready(self) -> bool:
        """Whether it is registered and works."""
        return '"worker started"' in self.log()


def _is_complaint(line: str) -> bool:
    try:
        fields: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return bool(line.strip())
    return fields.get("level") in SEVERE
