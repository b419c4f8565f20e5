"""The backend for machines with a container engine: kind, with the same surface as the local node."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testkit.cluster import janitor
from testkit.cluster.backend import BackendName, Capabilities, Component, Status, Wishes
from testkit.cluster.errors import ClusterError, StartError

VERSION_VARIABLE = "FLOWWORKER_KUBERNETES"
"""Minor version of Kubernetes, one of those in NODE_IMAGES; unset: the first."""

NODE_IMAGES: Mapping[str, str] = {
    "1.36": "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed",
    "1.35": "kindest/node:v1.35.8@sha256:07b2536e30b803ed61d1677a79df6115f798ce64c80f9e22f6ed45afd09323c0",
    "1.34": "kindest/node:v1.34.11@sha256:44e222ee2132dab25ff87301682f89eb82c7880ea3a1bf543bfe9708fd08d67d",
}
"""Those that were built for the kind in `modules/kind`; a node image works with its own kind only."""

CLUSTER = "flowworker"
NODE = f"{CLUSTER}-control-plane"
READY_WITHIN = "180s"

START_PATIENCE = 600.0
"""Seconds that kind may take to pull the node image and start."""
COMMAND_PATIENCE = 120.0
COMPONENT_PATIENCE = 60.0
"""Seconds until kubelet has ended or started a component."""
LOOK_EVERY = 0.5

STATIC = frozenset({Component.ETCD, Component.API_SERVER, Component.CONTROLLER_MANAGER, Component.SCHEDULER})
"""Pods that kubelet runs from files of the node."""
SERVICES = frozenset({Component.KUBELET, Component.CONTAINERD})
"""Services of the node's systemd."""
PODS = frozenset({Component.PROXY, Component.DNS})
"""Ordinary pods, which Kubernetes starts again by itself."""

MANIFESTS, ASIDE = "/etc/kubernetes/manifests", "/etc/kubernetes"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCluster:
    """One node in a container."""

    state: Path
    """Folder for the configuration and the kubeconfig."""
    program: str
    """The kind that is used."""
    engine: str
    """`docker` or `podman`."""
    version: str
    """Key of NODE_IMAGES."""

    @property
    def name(self) -> BackendName:
        """What it is made of."""
        return BackendName.KIND

    @property
    def capabilities(self) -> Capabilities:
        """Its network enforces NetworkPolicy, its volumes are open to all, its ordinary pods cannot be stopped."""
        return Capabilities(
            enforces_network_policy=True,
            gives_volumes_to_group=False,
            stoppable=STATIC | SERVICES,
            restartable=STATIC | SERVICES | PODS,
            simulates_nodes=False,
            nodes=1,
        )

    @property
    def kubeconfig(self) -> Path:
        """For programs of this machine."""
        return self.state / "kubeconfig"

    def up(self, wishes: Wishes) -> None:
        """Create the cluster and load the images.

        Raises:
            ClusterError: one is up, or a step failed.
        """
        if wishes.kwok:
            raise ClusterError("simulated nodes are there on the local backend only: FLOWWORKER_CLUSTER=local")
        if self._exists():
            raise ClusterError("a cluster is up already: use it, or take it down with `python -m testkit.cluster down`")
        self.state.mkdir(parents=True, exist_ok=True)
        if wishes.owner is not None:
            janitor.engage(self.state, wishes.owner, self.name)
        try:
            self._create()
            for archive in wishes.images:
                self.load_image(archive)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Delete the cluster and its state folder."""
        janitor.dismiss(self.state)
        self._kind("delete", "cluster", "--name", CLUSTER, "--kubeconfig", str(self.kubeconfig))
        if self.state.exists():
            shutil.rmtree(self.state)

    def status(self) -> Status:
        """How it is."""
        components = self._components() if self._exists() else {}
        return Status(backend=self.name, is_up=bool(components), kubeconfig=self.kubeconfig, components=components)

    def run(
        self, command: Sequence[str], *, stdin: str | None = None, deadline: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the node image in the node."""
        return subprocess.run(
            self.inside(command), input=stdin, capture_output=True, text=True, timeout=deadline, check=False
        )

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command line that runs another one in the node."""
        return [self.engine, "exec", "--interactive", "--env=KUBECONFIG=/etc/kubernetes/admin.conf", NODE, *command]

    def load_image(self, archive: Path) -> None:
        """Give the images of an archive to the node's containerd."""
        self._kind("load", "image-archive", str(archive), "--name", CLUSTER)

    def kill(self, component: Component) -> None:
        """End a component; kubelet or systemd start it again."""
        if component in SERVICES:
            self._on_node("systemctl", "kill", "--signal=SIGKILL", component)
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
            raise ClusterError(f"kind cannot keep {component} from running; see Capabilities.stoppable")

    def start(self, component: Component) -> None:
        """See to it that a component runs."""
        if component in SERVICES:
            self._on_node("systemctl", "start", component)
            return
        if component in STATIC:
            aside, place = f"{ASIDE}/{component}.yaml", f"{MANIFESTS}/{component}.yaml"
            self._on_node("sh", "-c", f"test ! -e {aside} || mv {aside} {place}")
        self._wait(lambda: bool(self._containers(component)), f"{component} runs")

    def restart(self, component: Component) -> None:
        """End a component orderly; kubelet or systemd start it again."""
        if component in SERVICES:
            self._on_node("systemctl", "restart", component)
            return
        before = self._containers(component)
        self._end_containers(component, grace=30)
        self._wait(lambda: bool(set(self._containers(component)) - set(before)), f"{component} runs again")

    def logs(self, component: Component) -> str:
        """What the running instance of a component has logged."""
        if component in SERVICES:
            return self._on_node("journalctl", "--no-pager", f"--unit={component}")
        return "".join(self._on_node("crictl", "logs", container) for container in self._containers(component))

    def export_logs(self, folder: Path) -> None:
        """Have kind collect the logs of the node, its daemons and pods."""
        self._kind("export", "logs", str(folder), "--name", CLUSTER)

    def _create(self) -> None:
        configuration = configuration_file(self.state)
        configuration.write_text(json.dumps(cluster_configuration(self.version), indent=1))
        self._kind(
            "create",
            "cluster",
            "--name",
            CLUSTER,
            "--config",
            str(configuration),
            "--kubeconfig",
            str(self.kubeconfig),
            "--wait",
            READY_WITHIN,
            patience=START_PATIENCE,
        )

    def _exists(self) -> bool:
        return CLUSTER in self._kind("get", "clusters").split()

    def _components(self) -> dict[str, str]:
        listing = json.loads(self._on_node("crictl", "ps", "--all", "--output=json"))["containers"]
        states = {each["metadata"]["name"]: each["state"] for each in listing}
        return {
            name: "running" if states[name] == "CONTAINER_RUNNING" else states[name]
            for name in sorted(STATIC | PODS)
            if name in states
        }

    def _containers(self, component: Component) -> list[str]:
        """Ids of its running containers."""
        return self._on_node("crictl", "ps", "--quiet", f"--name=^{component}$").split()

    def _end_containers(self, component: Component, *, grace: int) -> None:
        for container in self._containers(component):
            self._on_node("crictl", "stop", f"--timeout={grace}", container)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + COMPONENT_PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise StartError(f"waited {COMPONENT_PATIENCE:g} s in vain: {what}")
            time.sleep(LOOK_EVERY)

    def _on_node(self, *command: str) -> str:
        return _output([self.engine, "exec", NODE, *command], COMMAND_PATIENCE)

    def _kind(self, *arguments: str, patience: float = COMMAND_PATIENCE) -> str:
        return _output([self.program, *arguments], patience, {"KIND_EXPERIMENTAL_PROVIDER": self.engine})


def configuration_file(state: Path) -> Path:
    """What the cluster was made from."""
    return state / "kind.json"


def cluster_configuration(version: str) -> dict[str, Any]:
    """What `kind create cluster` reads."""
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": "control-plane", "image": NODE_IMAGES[version]}],
    }


def _output(command: Sequence[str], patience: float, environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{' '.join(command)} took longer than {patience:g} s") from None
    if done.returncode:
        raise ClusterError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
