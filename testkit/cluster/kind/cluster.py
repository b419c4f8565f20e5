"""The backend for machines with a container engine: kind, with the same surface as the local node."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from testkit.cluster import janitor
from testkit.cluster.backend import BackendName, Capabilities, Component, Status, Wishes
from testkit.cluster.engine import client
from testkit.cluster.engine import launch as own_engine
from testkit.cluster.engine.client import Engine
from testkit.cluster.errors import ClusterError, StartError
from testkit.cluster.kind.configuration import (
    CLUSTER,
    NODE,
    Document,
    Host,
    configuration,
    node_names,
    own_configuration,
    routes,
)
from testkit.cluster.kind.node_image import node_image
from testkit.cluster.kind.record import OWN, Record
from testkit.cluster.local.leftovers import unreverted
from testkit.cluster.local.undo import Undo

READY_WITHIN = "180s"
NETWORK = "kind"
"""Which kind makes for all of its clusters."""

START_PATIENCE = 600.0
"""Seconds that kind may take to pull the node image and start."""
COMMAND_PATIENCE = 120.0
COMPONENT_PATIENCE = 90.0
"""Seconds until a component works again."""
SHORT = 5.0
"""Seconds after which a component that kubelet does not start again is taken to be in its back-off."""
LOOK_EVERY = 0.3

STATIC = frozenset({Component.ETCD, Component.API_SERVER, Component.CONTROLLER_MANAGER, Component.SCHEDULER})
"""Pods that kubelet runs from files of the node."""
SERVICES = frozenset({Component.KUBELET, Component.CONTAINERD})
"""Services of the node's systemd."""
PODS = frozenset({Component.PROXY, Component.DNS})
"""Ordinary pods, which Kubernetes starts again by itself."""

ADMIN = "/etc/kubernetes/admin.conf"
MANIFESTS, ASIDE = "/etc/kubernetes/manifests", "/etc/kubernetes"

ADDONS = {Component.PROXY: "daemonset/kube-proxy", Component.DNS: "deployment/coredns"}
HEALTH: Mapping[Component, str] = {
    Component.ETCD: "http://127.0.0.1:2381/health",
    Component.CONTROLLER_MANAGER: "https://127.0.0.1:10257/healthz",
    Component.SCHEDULER: "https://127.0.0.1:10259/healthz",
    Component.KUBELET: "http://127.0.0.1:10248/healthz",
    Component.PROXY: "http://127.0.0.1:10256/healthz",
}
"""Where a component that has an address of its own says whether it works; kubectl is the node's HTTP client."""
CREDENTIALS = (
    "--insecure-skip-tls-verify",
    "--client-certificate=/var/lib/kubelet/pki/kubelet-client-current.pem",
    "--client-key=/var/lib/kubelet/pki/kubelet-client-current.pem",
)
"""kubectl insists on some; every node has these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCluster:
    """Nodes in containers."""

    state: Path
    """Folder for the configuration and the kubeconfig."""
    program: str
    """The kind that is used."""
    engine: str
    """`docker` or `podman`, or OWN."""
    version: str
    """Key of NODE_IMAGES; in an engine of our own there is only the one that is built here."""

    @property
    def name(self) -> BackendName:
        """What it is made of."""
        return BackendName.KIND

    @property
    def capabilities(self) -> Capabilities:
        """The volumes of kind's own node image are open to all."""
        record = Record.read(self.state)
        return Capabilities(gives_volumes_to_group=self.engine == OWN, nodes=node_names(record.nodes if record else 1))

    @property
    def kubeconfig(self) -> Path:
        """For programs of this machine."""
        return self.state / "kubeconfig"

    def up(self, wishes: Wishes) -> None:
        """Create the cluster, wait until it can be used, and load the images.

        Raises:
            ClusterError: one is up, or a step failed.
        """
        if wishes.kwok:
            raise ClusterError("simulated nodes are there on the local backend only: FLOWWORKER_CLUSTER=local")
        if self._exists():
            raise ClusterError("a cluster is up already: use it, or take it down with `python -m testkit.cluster down`")
        if Record.read(self.state) is not None:
            self.down()
        self._check_groups()
        self._begin(wishes)
        try:
            self._create(wishes.nodes)
            for archive in wishes.images:
                self.load_image(archive)
        except BaseException as error:
            kept = self._keep_logs() if isinstance(error, ClusterError) else ""
            self.down()
            if kept:
                raise StartError(f"{error}\nThe logs of its nodes are in {kept}.") from error
            raise

    def down(self) -> None:
        """Delete the cluster, its state folder, and what was changed on the machine.

        Raises:
            ClusterError: the engine does not answer, or something is left behind; says what.
        """
        janitor.dismiss(self.state)
        record = Record.read(self.state)
        if self.engine == OWN:
            own_engine.stop(self._engine_state)
            restored = False
        else:
            restored = self._delete(record)
        if record is None:
            return
        shutil.rmtree(self.state)
        folders = replace(record.before, settings={})
        (record.before if self.engine == OWN else folders).revert()
        if left := list(unreverted(record.before if self.engine == OWN or restored else folders)):
            raise ClusterError("left behind:\n" + "\n".join(f"  {line}" for line in left))

    def status(self) -> Status:
        """How it is."""
        components = self._components() if self._exists() else {}
        return Status(backend=self.name, is_up=bool(components), kubeconfig=self.kubeconfig, components=components)

    def run(
        self, command: Sequence[str], *, node: str = "", stdin: str | None = None, deadline: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the node image in a node."""
        return subprocess.run(
            self.inside(command, node=node),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
            env=_environment(self._engine()),
        )

    def inside(self, command: Sequence[str], *, node: str = "") -> list[str]:
        """The command line that runs another one in a node."""
        engine = self._engine()
        reached = ["env", *(f"{name}={value}" for name, value in engine.environment.items())]
        enter = [engine.program, "exec", "--interactive", f"--env=KUBECONFIG={ADMIN}", node or NODE]
        return [*(reached if engine.environment else []), *enter, *command]

    def load_image(self, archive: Path) -> None:
        """Give the images of an archive to the containerd of every node."""
        self._kind("load", "image-archive", str(archive), "--name", CLUSTER)

    def stop_node(self, node: str) -> None:
        """Kill a node's container: all processes end at once, and no connection is closed."""
        self._said("kill", node)

    def start_node(self, node: str) -> None:
        """Start a node's container again, and wait until its kubelet and its proxy work."""
        self._said("start", node)
        self._connect()
        for component in (Component.KUBELET, Component.PROXY):
            self._wait(lambda component=component: self._works(component, node), f"{component} works on {node}")
        self._settle()

    def kill(self, component: Component) -> None:
        """End a component; kubelet or systemd start it again."""
        if component in SERVICES:
            # The main process only: containerd's service holds those of all pods as well.
            self._on_node("systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", component)
        else:
            self._end_containers(component, grace=0)

    def stop(self, component: Component) -> None:
        """End a component and keep it from running.

        Raises:
            ClusterError: Kubernetes starts it again, whatever we do.
        """
        if component in SERVICES:
            self._on_node("systemctl", "stop", component)
        elif component in STATIC:
            self._on_node("mv", f"{MANIFESTS}/{component}.yaml", f"{ASIDE}/{component}.yaml")
            self._wait(lambda: not self._containers(component), f"{component} has ended")
        else:
            raise ClusterError(f"kind cannot keep {component} from running: Kubernetes starts it again")

    def start(self, component: Component) -> None:
        """See to it that a component works."""
        if component in SERVICES:
            self._on_node("systemctl", "start", component)
        if component in STATIC:
            aside, place = f"{ASIDE}/{component}.yaml", f"{MANIFESTS}/{component}.yaml"
            self._on_node("sh", "-c", f"test ! -e {aside} || mv {aside} {place}")
        self._await_work(component)

    def restart(self, component: Component) -> None:
        """End a component orderly and wait until it works again."""
        if component in SERVICES:
            self._on_node("systemctl", "restart", component)
        else:
            self._end_containers(component, grace=30)
        self._await_work(component)

    def logs(self, component: Component) -> str:
        """What the instances of a component have logged that the node still knows, the oldest first."""
        if component in SERVICES:
            return self._on_node("journalctl", "--no-pager", f"--unit={component}")
        # crictl passes both streams on; Kubernetes' own components log to the second.
        return "".join(self._on_node("crictl", "logs", each, both=True) for each in self._instances(component))

    def export_logs(self, folder: Path) -> None:
        """Have kind collect the logs of the nodes, their daemons and pods."""
        self._kind("export", "logs", str(folder), "--name", CLUSTER)

    @property
    def _engine_state(self) -> Path:
        return self.state / "engine"

    def _engine(self) -> Engine:
        if self.engine != OWN:
            return Engine(program=self.engine)
        if engine := own_engine.find(self._engine_state):
            return engine
        raise ClusterError("no cluster is up: `python -m testkit.cluster up`")

    def _check_groups(self) -> None:
        """See that kind's own node images, whose systemd needs control groups of version 2, can run."""
        if self.engine != OWN and client.has_old_groups(self.engine):
            raise ClusterError(
                f"the machine of {self.engine} has control groups of version 1, and the nodes of kind need version 2: "
                "start it with the kernel's option systemd.unified_cgroup_hierarchy=1, or set FLOWWORKER_CLUSTER=local "
                "(as root, on Debian)"
            )

    def _begin(self, wishes: Wishes) -> None:
        keeps = self.engine != OWN and NETWORK in self._said("network", "ls", "--format={{.Name}}").split()
        before = Undo.watch(folders=[str(self.state.parent)])
        self.state.mkdir(parents=True, exist_ok=True)
        Record(engine=self.engine, nodes=wishes.nodes, keeps_network=keeps, before=before).write(self.state)
        if wishes.owner is not None:
            janitor.engage(self.state, wishes.owner, self.name)

    def _create(self, nodes: int) -> None:
        file = self.state / "kind.json"
        file.write_text(json.dumps(self._configuration(nodes), indent=1))
        self._kind(
            *("create", "cluster", "--name", CLUSTER, "--config", str(file), "--kubeconfig", str(self.kubeconfig)),
            *("--retain", "--wait", READY_WITHIN),
            patience=START_PATIENCE,
        )
        self._connect()
        self._settle()

    def _settle(self) -> None:
        """Wait until every node can run pods; kind waits for the first alone."""
        self._ask(
            "wait", "nodes", "--all", "--for=condition=Ready", f"--timeout={READY_WITHIN}", patience=START_PATIENCE
        )
        for what in ADDONS.values():
            rollout = ["rollout", "status", what, f"--timeout={READY_WITHIN}"]
            self._ask("--namespace=kube-system", *rollout, patience=START_PATIENCE)

    def _connect(self) -> None:
        """Have every node know the way to the pods of the others; kind's own images bring a network that does."""
        if self.engine != OWN:
            return
        for node, command in routes(json.loads(self._ask("get", "nodes", "--output=json"))["items"]):
            self._said("exec", node, *command)

    def _ask(self, *arguments: str, patience: float = COMMAND_PATIENCE) -> str:
        """What the administrator's kubectl says in the node."""
        return self._on_node("env", f"KUBECONFIG={ADMIN}", "kubectl", *arguments, patience=patience)

    def _configuration(self, nodes: int) -> Document:
        if self.engine != OWN:
            return configuration(self.version, nodes)
        image = node_image()
        engine = own_engine.start(self._engine_state)
        self._said("load", "--quiet", f"--input={image.archive}", patience=START_PATIENCE)
        return own_configuration(image.name, nodes, Host.look(), engine.port)

    def _delete(self, record: Record | None) -> bool:
        """Delete the cluster from an engine of the machine, and kind's network when no other cluster needs it.

        Returns:
            Whether the machine's settings were given back.
        """
        restored = record is not None and self._exists() and self._restore(record.before)
        self._kind("delete", "cluster", "--name", CLUSTER, "--kubeconfig", str(self.kubeconfig))
        if record and not record.keeps_network and not self._kind("get", "clusters").split():
            self._said("network", "rm", NETWORK)
        return restored

    def _restore(self, before: Undo) -> bool:
        """Give settings back through the node, which may where we may not.

        Returns:
            Whether that was to be done: not while another cluster needs them, nor where the nodes run on a virtual
            machine of the engine.
        """
        identity = "/proc/sys/kernel/random/boot_id"
        here = self.run(["cat", identity]).stdout == Path(identity).read_text()
        if not here or len(self._kind("get", "clusters").split()) > 1:
            return False
        for name, value in before.settings.items():
            self.run(["sh", "-c", f"echo '{value}' > /proc/sys/{name}"])
        return True

    def _keep_logs(self) -> str:
        """Folder with the logs of a cluster that did not come up; empty when there are none."""
        folder = tempfile.mkdtemp(prefix="flowworker-kind-")
        try:
            self.export_logs(Path(folder))
        except ClusterError:
            shutil.rmtree(folder)
            return ""
        return folder

    def _exists(self) -> bool:
        if self.engine == OWN and own_engine.find(self._engine_state) is None:
            return False
        return CLUSTER in self._kind("get", "clusters").split()

    def _components(self) -> dict[str, str]:
        states: dict[str, str] = {}
        for one in sorted(self._listed(), key=lambda each: int(each["createdAt"])):
            states[one["metadata"]["name"]] = one["state"]
        components: dict[str, str] = {
            name: "running" if states[name] == "CONTAINER_RUNNING" else states[name]
            for name in sorted(STATIC | PODS)
            if name in states
        }
        services = sorted(SERVICES)
        # It ends with an error when one of them is not active.
        for name, line in zip(services, self.run(["systemctl", "is-active", *services]).stdout.split(), strict=True):
            components[name] = "running" if line == "active" else line
        return components

    def _listed(self, *options: str) -> list[Document]:
        return json.loads(self._on_node("crictl", "ps", "--all", "--output=json", *options))["containers"]

    def _instances(self, component: Component) -> list[str]:
        """Ids of all its containers, the oldest first."""
        listed = self._listed(f"--name=^{component}$")
        return [one["id"] for one in sorted(listed, key=lambda each: int(each["createdAt"]))]

    def _containers(self, component: Component) -> list[str]:
        """Ids of its running containers."""
        return self._on_node("crictl", "ps", "--quiet", f"--name=^{component}$").split()

    def _end_containers(self, component: Component, *, grace: int) -> None:
        for container in self._containers(component):
            self._on_node("crictl", "stop", f"--timeout={grace}", container)

    def _await_work(self, component: Component) -> None:
        """Wait until a component works; kubelet forgets its back-off when it starts anew, so it is made to."""
        began, deadline = time.monotonic(), time.monotonic() + COMPONENT_PATIENCE
        hurried = component in SERVICES
        while not self._works(component):
            if not hurried and time.monotonic() > began + SHORT and not self._containers(component):
                self._on_node("systemctl", "restart", Component.KUBELET)
                hurried = True
            if time.monotonic() > deadline:
                raise StartError(f"waited {COMPONENT_PATIENCE:g} s in vain: {component} works")
            time.sleep(LOOK_EVERY)

    def _works(self, component: Component, node: str = NODE) -> bool:
        if component is Component.CONTAINERD:
            return self.run(["crictl", "info"]).returncode == 0
        if component is Component.DNS:
            rollout = ["rollout", "status", ADDONS[component], "--timeout=1s"]
            return self.run(["kubectl", "--namespace=kube-system", *rollout]).returncode == 0
        if component in HEALTH:
            server, _, path = HEALTH[component].rpartition("/")
            asked = [f"--server={server}", f"--raw=/{path}"]
            line = ["env", "KUBECONFIG=/dev/null", "kubectl", "get", *CREDENTIALS, *asked]
            return self.run(line, node=node).returncode == 0
        return self.run(["kubectl", "get", "--raw=/readyz"]).returncode == 0

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + COMPONENT_PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise StartError(f"waited {COMPONENT_PATIENCE:g} s in vain: {what}")
            time.sleep(LOOK_EVERY)

    def _on_node(self, *command: str, patience: float = COMMAND_PATIENCE, both: bool = False) -> str:
        return self._said("exec", NODE, *command, patience=patience, both=both)

    def _said(self, *arguments: str, patience: float = COMMAND_PATIENCE, both: bool = False) -> str:
        engine = self._engine()
        return self._output([engine.program, *arguments], _environment(engine), patience, both=both)

    def _kind(self, *arguments: str, patience: float = COMMAND_PATIENCE) -> str:
        engine = self._engine()
        environment = {**_environment(engine), "KIND_EXPERIMENTAL_PROVIDER": engine.name}
        return self._output([self.program, *arguments], environment, patience)

    def _output(
        self, command: Sequence[str], environment: Mapping[str, str], patience: float, *, both: bool = False
    ) -> str:
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if both else subprocess.PIPE,
                text=True,
                timeout=patience,
                check=False,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{' '.join(command)} took longer than {patience:g} s") from None
        if not done.returncode:
            return done.stdout
        if self.engine != OWN and not client.answers(self.engine):
            here = "a cluster is here, in" if Record.read(self.state) else "kind needs"
            raise ClusterError(f"{here} {self.engine}, which does not answer: start {self.engine} and try again")
        raise ClusterError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr or done.stdout}")


def _environment(engine: Engine) -> Mapping[str, str]:
    return {**os.environ, **engine.environment}
