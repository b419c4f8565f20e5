"""The operator as a real process with no more rights than the chart gives it; can be killed, frozen and stopped."""

import asyncio
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from testkit.cluster.control_plane import ControlPlane
from testkit.support.rights import rules
from testkit.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
LEASE = "flowworker-operator"
SEVERE = frozenset({"error", "critical"})


@dataclass(slots=True, kw_only=True)
class OperatorProcess:
    """One operator of one namespace."""

    control_plane: ControlPlane
    namespace: str
    folder: Path
    identity: str = "operator-0"
    settings: dict[str, str] = field(default_factory=dict[str, str])
    """More of its environment, without the prefix."""
    launcher: str = "flowworker_operator"
    """The module that is run."""
    port: int = 0
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @property
    def user(self) -> str:
        """Who the API server takes it for."""
        return f"{self.namespace}-{self.identity}"

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
        """Start it, and return once it watches."""
        await self.launch()
        await until(self._is_ready, f"{self.identity} watches")

    async def launch(self) -> None:
        """Start it, and do not wait for anything."""
        kubeconfig = await asyncio.to_thread(self.control_plane.user, self.user, rules(), self.namespace)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.launcher,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT,
                env=self._environment(kubeconfig), start_new_session=True,
            )  # fmt: skip

    async def stop(self) -> int:
        """SIGTERM; its exit code once it has ended."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), 15)

    async def kill(self) -> None:
        """SIGKILL; returns once it is gone."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP, as a paused machine would look."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an answer of its HTTP port; 0 when there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return 0, ""

    @property
    def log_path(self) -> Path:
        """Where its standard error goes."""
        return self.folder / f"{self.identity}.log"

    def log(self) -> str:
        """Everything it has written."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [orjson.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def complaints(self) -> list[str]:
        """Log lines that nobody should ever have to read: errors, and whatever is no log line."""
        return [line for line in self.log().splitlines() if _is_complaint(line)]

    async def _is_ready(self) -> bool:
        if not self.running:
            raise AssertionError(f"{self.identity} ended at its start:\n{self.log()[-3000:]}")
        status, _ = await asyncio.to_thread(self.get, "/readyz")
        return status == 200

    def _environment(self, kubeconfig: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWWORKER_")}
        settings = {
            "NAMESPACES": self.namespace,
            "KUBECONFIG": str(kubeconfig),
            "LEASE_NAMESPACE": self.namespace,
            "LEASE_NAME": LEASE,
            "IDENTITY": self.identity,
            "DATABASE_HOSTS": "127.0.0.0/8",
            "HTTP_PORT": str(self.port),
            **self.settings,
        }
        # kopf's copies of the certificates are left behind when it is killed.
        own = {"TMPDIR": str(self.folder)}
        return {**kept, **own, **{f"FLOWWORKER_OPERATOR_{name}": value for name, value in settings.items()}}


def _is_complaint(line: str) -> bool:
    try:
        fields: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        return bool(line.strip())
    return fields.get("level") in SEVERE
