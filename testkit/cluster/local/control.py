"""What the outside asks the node's PID 1, over a socket that is a file: those cross network namespaces.

One connection, one JSON object as a line, one answer.
"""

import asyncio
import json
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

from testkit.cluster.backend import Component
from testkit.cluster.errors import ClusterError
from testkit.cluster.layout import Layout
from testkit.cluster.local.startup import Node

Action = Literal["kill", "stop", "start", "status", "load"]
STOP_PATIENCE = 30.0
"""Seconds a daemon may take to stop before it is killed."""
ANSWER_PATIENCE = 400.0
"""Seconds that an answer may take; longer than any step inside."""


def control_socket(layout: Layout) -> Path:
    """Where PID 1 listens."""
    return layout.run / "control.sock"


def ask(layout: Layout, action: Action, subject: str = "") -> dict[str, Any]:
    """Have PID 1 do something, and wait until it is done.

    Raises:
        ClusterError: it cannot, or there is none.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_PATIENCE)
        try:
            connection.connect(str(control_socket(layout)))
            connection.sendall(json.dumps({"action": action, "subject": subject}).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        except (OSError, ValueError) as error:
            raise ClusterError(f"the cluster does not answer ({error}): `python -m testkit.cluster status`") from error
    if "error" in answer:
        raise ClusterError(answer["error"])
    return answer


@dataclass(frozen=True, slots=True)
class Control:
    """Answers on the socket."""

    node: Node

    async def listen(self) -> asyncio.Server:
        """Begin to answer."""
        return await asyncio.start_unix_server(self._serve, control_socket(self.node.layout))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.readline())
        try:
            answer = await self._do(request["action"], request["subject"])
        except ClusterError as error:
            answer = {"error": str(error)}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def _do(self, action: Action, subject: str) -> dict[str, Any]:
        match action:
            case "status":
                return {"components": self._components(), "seconds": self.node.seconds}
            case "load":
                await self.node.load(Path(subject))
            case "start":
                await self.node.start(self._known(subject))
            case "stop":
                await self._end(self._known(subject), signal.SIGTERM)
            case "kill":
                await self._end(self._known(subject), signal.SIGKILL)
            case _:
                assert_never(action)
        return {}

    def _components(self) -> dict[str, str]:
        return {
            name: "running" if process.is_running else f"ended with {process.ended.result()}"
            for name, process in self.node.running.items()
        }

    def _known(self, name: str) -> Component:
        if name not in self.node.daemons:
            raise ClusterError(f"this cluster has no {name!r}; it has {', '.join(self.node.daemons)}")
        return Component(name)

    async def _end(self, name: Component, number: signal.Signals) -> None:
        process = self.node.running[name]
        process.send(number)
        try:
            await asyncio.wait_for(process.end(), STOP_PATIENCE)
        except TimeoutError:
            process.send(signal.SIGKILL)
            await process.end()
