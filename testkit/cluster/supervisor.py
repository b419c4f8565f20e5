"""The process that owns a control plane: `python -m testkit.cluster.supervisor FOLDER SOCKET`.

Who uses the control plane holds a connection to it, on which one JSON object per line asks for something and one
answers. When the last connection is gone, so are the daemons and the folder. The kernel closes the connections of a
killed process, so nothing is left behind by a test run that was killed, and no user has to be counted.
"""

import json
import os
import secrets
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from testkit.cluster import daemons
from testkit.cluster.api import Api
from testkit.cluster.certificates import ADMIN, control_plane_identities, write_identities
from testkit.cluster.children import Children
from testkit.cluster.configuration import control_plane_files, write_files
from testkit.cluster.errors import ClusterError
from testkit.cluster.layout import Layout

SOCKET = "control.sock"
LONGEST_REQUEST = 4096

Answer = dict[str, Any]


@dataclass(slots=True)
class Supervisor:
    """Brings a control plane up, does what its users ask for, and ends with the last of them."""

    layout: Layout
    children: Children
    api: Api
    timings: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds from the start until each step was done."""

    def bring_up(self) -> None:
        """Start everything in order, each step with its deadline.

        Raises:
            StartError: something did not come up.
        """
        started = time.monotonic()
        for daemon in (daemons.etcd(self.layout, durable=False), daemons.api_server(self.layout)):
            self.children.start(daemon)
            self.children.wait_healthy(daemon.name)
            self.timings[daemon.name] = time.monotonic() - started
        manager = daemons.controller_manager(self.layout)
        self.children.start(manager)
        self.children.wait_healthy(manager.name)
        self.timings[manager.name] = time.monotonic() - started
        self.children.wait(self._has_service_account, manager.name, "the default service account exists")
        self.timings["service account"] = time.monotonic() - started

    def serve(self, listener: socket.socket, first: socket.socket) -> None:
        """Answer until the last connection is closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(first, selectors.EVENT_READ)
            while len(selector.get_map()) > 1:
                for key, _ in selector.select():
                    ready = key.fileobj
                    assert isinstance(ready, socket.socket)
                    if ready is listener:
                        selector.register(listener.accept()[0], selectors.EVENT_READ)
                    elif not self._answer(ready):
                        selector.unregister(ready)
                        ready.close()

    def _answer(self, connection: socket.socket) -> bool:
        """Whether the connection is still there."""
        try:
            request = connection.recv(LONGEST_REQUEST)
            if request:
                say(connection, self._do(json.loads(request)))
        except ConnectionError:
            return False
        return bool(request)

    def _do(self, request: dict[str, str]) -> Answer:
        commands: dict[str, Callable[[str], None]] = {
            "start": self.children.start_again,
            "stop": self.children.stop,
            "kill": self.children.kill,
            "freeze": self.children.freeze,
            "thaw": self.children.thaw,
        }
        try:
            if request["do"] != "status":
                commands[request["do"]](request["component"])
        except ClusterError as error:
            return {"error": str(error)}
        return {"pids": self.children.pids(), "timings": self.timings}

    def _has_service_account(self) -> bool:
        return self.api.find("/api/v1/namespaces/default/serviceaccounts/default") is not None


def say(connection: socket.socket, answer: Answer) -> None:
    """Send one answer."""
    connection.sendall(json.dumps(answer).encode() + b"\n")


def prepare(layout: Layout) -> Supervisor:
    """Write everything that the daemons read."""
    for folder in (layout.logs, layout.run):
        folder.mkdir(parents=True)
    write_identities(layout, control_plane_identities(layout), datetime.now(UTC))
    write_files(layout, control_plane_files(layout, secrets.token_bytes(32)))
    api = Api.from_kubeconfig(layout.kubeconfig(ADMIN))
    return Supervisor(layout, Children(layout, api.context), api)


def _leave(_number: int, _frame: object) -> None:
    sys.exit(1)


def main(folder: Path, first: socket.socket) -> None:
    """Run one control plane from its start to its end."""
    # The terminal's interrupt is for the tests, which still want to tidy up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # When it is terminated, it leaves through `finally`.
    signal.signal(signal.SIGTERM, _leave)
    try:
        supervisor = prepare(Layout.load(folder))
        try:
            supervisor.bring_up()
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(folder / SOCKET))
                listener.listen()
                say(first, {"pids": supervisor.children.pids(), "timings": supervisor.timings})
                supervisor.serve(listener, first)
        except ClusterError as error:
            say(first, {"error": str(error)})
        finally:
            supervisor.children.end_all()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    os.umask(0o077)
    main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
