"""A real control plane for tests: etcd, API server and controller manager as plain processes on loopback.

There is no node and no scheduler: pods are created and stay Pending. It needs no root, many can run side by side, and
one can be shared by several processes: every holder of a `ControlPlane` uses it, and it ends with the last one.
"""

import http
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

from testkit.cluster.api import Api, Object
from testkit.cluster.certificates import ADMIN, Authority, Identity, kubeconfig, write_private
from testkit.cluster.children import LOOK_EVERY
from testkit.cluster.errors import ApiError, ClusterError, StartError
from testkit.cluster.layout import Layout, free_ports
from testkit.cluster.supervisor import SOCKET

ROOT = Path(__file__).resolve().parents[2]

RBAC = "/apis/rbac.authorization.k8s.io/v1"
RBAC_GROUP = "rbac.authorization.k8s.io"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

PATIENCE = 30.0
"""Seconds for what the server does by itself after a request was accepted."""


@dataclass(slots=True)
class ControlPlane:
    """A control plane that runs for as long as one of these is open."""

    layout: Layout
    api: Api
    """The API server, as admin."""
    _connection: socket.socket

    @classmethod
    def launch(cls, programs: Mapping[str, Path]) -> Self:
        """Start a new one; returns once it is ready.

        Args:
            programs: paths of `programs.CONTROL_PLANE`, as `binaries.build` returns them.

        Raises:
            StartError: a daemon did not come up; ends with the last lines of its log.
        """
        layout = Layout(
            # A socket's path may have no more than 107 characters, so this is no folder of pytest's.
            state=Path(tempfile.mkdtemp(prefix="flowworker-control-plane-")),
            programs=programs,
            ports=free_ports(random.Random()),
        )
        layout.save()
        with tempfile.TemporaryFile() as complaints:
            connection = _spawn_supervisor(layout, complaints)
            try:
                _wait_ready(connection, complaints)
                return cls._user(layout, connection)
            except BaseException:
                connection.close()
                raise

    @classmethod
    def attach(cls, state: Path) -> Self:
        """Use one that another process has started.

        Raises:
            OSError: it is gone, or was never there.
            ClusterError: it ends at this very moment.
        """
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(state / SOCKET))
            control_plane = cls._user(Layout.load(state), connection)
            # A connection alone may still wait at a door that is being closed; who is answered is a user.
            control_plane.pids()
            return control_plane
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Use it no longer."""
        self._connection.close()

    @property
    def kubeconfig(self) -> Path:
        """Of the admin."""
        return self.layout.kubeconfig(ADMIN)

    @property
    def audit_log(self) -> Path:
        """One JSON object per answered request; a large answer may arrive a moment before it is noted."""
        return self.layout.audit_log

    def audited(self) -> list[Object]:
        """What the audit log holds so far."""
        # A line that is being written has no end yet.
        lines = self.audit_log.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def log(self, component: str) -> str:
        """Everything that a component has written."""
        return self.layout.log(component).read_text(errors="replace")

    def pids(self) -> dict[str, int]:
        """Process ids of the components that run."""
        return self._ask("status")["pids"]

    def timings(self) -> dict[str, float]:
        """Seconds from the start until each component worked."""
        return self._ask("status")["timings"]

    def start(self, component: str) -> None:
        """Start a stopped component; returns once it works.

        Raises:
            ClusterError: it did not come up.
        """
        self._ask("start", component)

    def stop(self, component: str) -> None:
        """Stop a component; returns once it has ended."""
        self._ask("stop", component)

    def kill(self, component: str) -> None:
        """End a component at once."""
        self._ask("kill", component)

    def restart(self, component: str) -> None:
        """Stop and start a component."""
        self.stop(component)
        self.start(component)

    def freeze(self, component: str) -> None:
        """Let a component stand still with its connections open."""
        self._ask("freeze", component)

    def thaw(self, component: str) -> None:
        """Let a frozen component go on."""
        self._ask("thaw", component)

    def user(self, name: str, rules: Sequence[Object], namespace: str | None = None) -> Path:
        """Kubeconfig of a user who may do what the rules say and nothing else, from now on.

        Args:
            name: of the user, its role and its binding; the same name again replaces the rules.
            rules: as in a Role.
            namespace: where they hold; None: everywhere.
        """
        credential = Authority.load(self.layout, "ca").issue(Identity(name=name, user=name), datetime.now(UTC))
        path = self.layout.kubeconfig(f"user-{name}")
        write_private(path, kubeconfig(self.layout, name, credential))
        self._bind(name, rules, namespace)
        for rule in (rule for rule in rules if "resources" in rule):
            self._wait_for(lambda rule=rule: self._may(name, rule, namespace), f"{name} may do {rule}")
        return path

    def install(self, definition: Object) -> None:
        """Apply a CustomResourceDefinition; returns once its resources can be used."""
        name, spec = definition["metadata"]["name"], definition["spec"]
        self.api.apply(f"{DEFINITIONS}/{name}", definition)
        collections = [
            f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}" for version in spec["versions"]
        ]
        self._wait_for(lambda: all(self._is_served(collection) for collection in collections), f"{name} is served")

    def create_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Create a namespace; returns once pods can be created in it."""
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": dict(labels)}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        self._wait_for(lambda: self.api.find(account) is not None, f"{account} exists")

    @classmethod
    def _user(cls, layout: Layout, connection: socket.socket) -> Self:
        return cls(layout, Api.from_kubeconfig(layout.kubeconfig(ADMIN)), connection)

    def _ask(self, what: str, component: str = "") -> dict[str, Any]:
        try:
            self._connection.sendall(json.dumps({"do": what, "component": component}).encode())
            line = _receive(self._connection)
        except ConnectionError:
            line = b""
        return _checked(line)

    def _bind(self, name: str, rules: Sequence[Object], namespace: str | None) -> None:
        kind, base = (
            ("ClusterRole", f"{RBAC}/cluster") if namespace is None else ("Role", f"{RBAC}/namespaces/{namespace}/")
        )
        version = {"apiVersion": f"{RBAC_GROUP}/v1"}
        role = {**version, "kind": kind, "metadata": {"name": name}, "rules": list(rules)}
        binding = {
            **version,
            "kind": f"{kind}Binding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC_GROUP, "kind": kind, "name": name},
            "subjects": [{"apiGroup": RBAC_GROUP, "kind": "User", "name": name}],
        }
        self.api.apply(f"{base}roles/{name}", role)
        self.api.apply(f"{base}rolebindings/{name}", binding)

    def _may(self, user: str, rule: Object, namespace: str | None) -> bool:
        """The authorizer learns of new rules by a watch, a moment later."""
        resource, _, subresource = rule["resources"][0].partition("/")
        attributes: Object = {
            "verb": rule["verbs"][0],
            "group": rule.get("apiGroups", [""])[0],
            "resource": resource,
            "subresource": subresource,
            "name": rule.get("resourceNames", [""])[0],
            "namespace": namespace or "",
        }
        review = {"spec": {"user": user, "resourceAttributes": attributes}}
        answer = self.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return answer["status"]["allowed"]

    def _is_served(self, collection: str) -> bool:
        try:
            return self.api.find(collection) is not None
        except ApiError as error:
            # Its storage is being set up.
            if error.status == http.HTTPStatus.TOO_MANY_REQUESTS:
                return False
            raise

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise ClusterError(f"waited {PATIENCE:g} s in vain: {what}")
            time.sleep(LOOK_EVERY)


@contextmanager
def running(programs: Mapping[str, Path]) -> Generator[ControlPlane]:
    """A control plane of one's own, which may be broken."""
    control_plane = ControlPlane.launch(programs)
    try:
        yield control_plane
    finally:
        control_plane.close()


def _spawn_supervisor(layout: Layout, complaints: IO[bytes]) -> socket.socket:
    """Start the supervisor; the answer is the first connection to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "testkit.cluster.supervisor", str(layout.state), str(theirs.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=complaints,
            stderr=complaints,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    # It is not waited for: it may outlive this process, for others.
    supervisor.returncode = 0
    return ours


def _wait_ready(connection: socket.socket, complaints: IO[bytes]) -> None:
    """Read the first answer, which comes when everything works or something does not."""
    line = _receive(connection)
    if not line:
        complaints.seek(0)
        raise StartError(f"the control plane's supervisor failed:\n{complaints.read().decode(errors='replace')}")
    _checked(line)


def _receive(connection: socket.socket) -> bytes:
    """One answer; empty when the supervisor has closed the connection."""
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            return b""
        line += part
    return line


def _checked(line: bytes) -> dict[str, Any]:
    if not line:
        raise ClusterError("the control plane's supervisor is gone; was it killed?")
    answer = json.loads(line)
    if "error" in answer:
        raise StartError(answer["error"])
    return answer
