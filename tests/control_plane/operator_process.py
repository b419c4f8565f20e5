"""The operator as a real process with no more rights than the chart gives it; can be killed, frozen and stopped."""

import asyncio
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import orjson
from testkit.cluster.control_plane import ControlPlane
from testkit.support.processes import ServiceProcess
from testkit.support.rights import rules

LEASE = "flowworker-operator"


@dataclass(slots=True, kw_only=True)
class OperatorProcess(ServiceProcess):
    """One operator of one namespace; its name is the identity under which it asks for the Lease."""

    control_plane: ControlPlane
    namespace: str
    launcher: str = "flowworker_operator"
    """The module that is run."""
    port: int = 0

    @property
    def user(self) -> str:
        """Who the API server takes it for."""
        return f"{self.namespace}-{self.name}"

    async def launch(self) -> None:
        """Start it, however that goes."""
        kubeconfig = await asyncio.to_thread(self.control_plane.user, self.user, rules(), self.namespace)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {
            "NAMESPACES": self.namespace,
            "KUBECONFIG": str(kubeconfig),
            "LEASE_NAMESPACE": self.namespace,
            "LEASE_NAME": LEASE,
            "IDENTITY": self.name,
            "DATABASE_HOSTS": "127.0.0.0/8",
            "HTTP_PORT": str(self.port),
            **self.settings,
        }
        # kopf's copies of the certificates are left behind when it is killed.
        own = {"TMPDIR": str(self.folder)}
        ours = {f"FLOWWORKER_OPERATOR_{name}": value for name, value in settings.items()}
        await self._run("-m", self.launcher, environment={**own, **ours})

    async def is_ready(self) -> bool:
        """Whether it watches."""
        status, _ = await asyncio.to_thread(self.get, "/readyz")
        return status == 200

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an answer of its HTTP port; 0 when there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return 0, ""

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [orjson.loads(line) for line in self.log().splitlines() if line.startswith("{")]
