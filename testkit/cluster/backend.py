"""One interface to a cluster, whatever it is made of."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

CHOICE_VARIABLE = "FLOWWORKER_CLUSTER"
"""`kind` or `local`; unset: kind where a container engine answers, else local."""

STATE_VARIABLE = "FLOWWORKER_CLUSTER_STATE"
"""Folder for everything a cluster writes; unset: a folder outside the tree."""


class BackendName(StrEnum):
    """What a cluster is made of."""

    KIND = "kind"
    LOCAL = "local"


class Component(StrEnum):
    """A daemon that can be killed, stopped and started on its own."""

    ETCD = "etcd"
    API_SERVER = "kube-apiserver"
    CONTROLLER_MANAGER = "kube-controller-manager"
    SCHEDULER = "kube-scheduler"
    CONTAINERD = "containerd"
    KUBELET = "kubelet"
    PROXY = "kube-proxy"
    DNS = "coredns"
    KWOK = "kwok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a new cluster shall have beside Kubernetes."""

    images: tuple[Path, ...] = ()
    """Archives in docker-archive format."""
    kwok: bool = False
    """Simulated nodes and pods."""
    nodes: int = 1
    """More than one there are on `kind` only."""
    owner: int | None = None
    """Process whose end takes the cluster down, however it ends; None: the cluster stays until `down`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What tests may expect; a test that needs more says so and is skipped with that reason."""

    gives_volumes_to_group: bool
    """Whether a pod's fsGroup owns its volumes; otherwise any user may write to them."""
    nodes: tuple[str, ...]
    """Names. What no test takes away is on the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a cluster is."""

    backend: BackendName
    is_up: bool
    kubeconfig: Path
    components: Mapping[str, str] = field(default_factory=dict[str, str])
    """Component to `running` or to how it ended."""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """Step of the start to seconds after its begin."""


class Backend(Protocol):
    """A cluster. Every method raises ClusterError when it cannot do its work."""

    @property
    def name(self) -> BackendName:
        """What it is made of."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What tests may expect of it."""
        ...

    @property
    def kubeconfig(self) -> Path:
        """Administrator's kubeconfig, for programs of this machine."""
        ...

    def up(self, wishes: Wishes) -> None:
        """Bring it up and wait until its node is ready and its images are there. Refuses while one is up."""
        ...

    def down(self) -> None:
        """Remove it and everything it has made, whatever state it is in; nothing to remove is fine."""
        ...

    def status(self) -> Status:
        """How it is."""
        ...

    def run(
        self, command: Sequence[str], *, node: str = "", stdin: str | None = None, deadline: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a node's network; the caller looks at its exit code.

        Args:
            command: A program of this machine on `local`, of the node image on `kind`.
            node: Where; unset: on the first, with KUBECONFIG set.
            stdin: What it reads.
            deadline: Seconds after which it is killed.
        """
        ...

    def inside(self, command: Sequence[str], *, node: str = "") -> list[str]:
        """The command line that does what `run` does, for a program that talks to the terminal."""
        ...

    def load_image(self, archive: Path) -> None:
        """Make the images of a docker-archive known to every node."""
        ...

    def stop_node(self, node: str) -> None:
        """Take a node away without warning, as a loss of power does; never the first."""
        ...

    def start_node(self, node: str) -> None:
        """Bring a node back that was taken away, and wait until it works."""
        ...

    def kill(self, component: Component) -> None:
        """End a component of the first node without warning."""
        ...

    def stop(self, component: Component) -> None:
        """End a component and keep it from running; on `kind` there are some that Kubernetes starts again."""
        ...

    def start(self, component: Component) -> None:
        """See to it that a component runs that was killed or stopped, and wait until it works."""
        ...

    def restart(self, component: Component) -> None:
        """End a component orderly, start it again, and wait until it works."""
        ...

    def logs(self, component: Component) -> str:
        """Everything a component has logged."""
        ...

    def export_logs(self, folder: Path) -> None:
        """Copy all logs into a folder, for people who read them later."""
        ...
