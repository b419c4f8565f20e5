"""Real worker processes: started as people start them, then killed, frozen, thawed and told to stop."""

import asyncio
import os
import signal
import sys
import time
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
class WorkerProcess:
    """One worker process, known to journal and audit by its name."""

    name: str
    dsn: str
    folder: Path
    arguments: tuple[str, ...]
    launcher: str = COMMAND_LINE
    settings: dict[str, str] = field(default_factory=dict[str, str])
    """Environment of the worker, without the prefix."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """More of it, as it is."""
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

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

    async def start(self) -> None:
        """Start it, and return once it is registered and works."""
        await self.launch()
        await until(self._is_ready, f"{self.name} is registered and works")

    async def launch(self) -> None:
        """Start it, however that goes."""
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.launcher, "run", *self.arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(), cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip

    def kill(self) -> int:
        """SIGKILL; returns the monotonic nanoseconds of it."""
        return self._signal(signal.SIGKILL)

    def freeze(self) -> int:
        """SIGSTOP, as a paused machine would look."""
        return self._signal(signal.SIGSTOP)

    def thaw(self) -> int:
        """SIGCONT."""
        return self._signal(signal.SIGCONT)

    def tell(self, number: signal.Signals) -> int:
        """Another signal."""
        return self._signal(number)

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
        """Log lines that nobody should ever have to read: errors, and tracebacks outside of a log line."""
        return [line for line in self.log().splitlines() if _is_complaint(line)]

    def _is_ready(self) -> bool:
        if not self.running:
            raise AssertionError(f"{self.name} ended at its start:\n{self.log()[-3000:]}")
        return '"worker started"' in self.log()

    def _signal(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return time.monotonic_ns()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWWORKER_")}
        settings = {"DATABASE_URL": self.dsn, "POD_NAME": self.name, "WORKER_NAME": self.name, **QUICK, **self.settings}
        ours = {f"FLOWWORKER_{name}": value for name, value in settings.items()}
        witness = {journal.FOLDER_VARIABLE: str(self.folder), journal.NAME_VARIABLE: self.name}
        return {**kept, **ours, **witness, **self.environment}


def _is_complaint(line: str) -> bool:
    try:
        fields: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return bool(line.strip())
    return fields.get("level") in SEVERE
