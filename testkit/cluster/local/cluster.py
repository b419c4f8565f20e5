"""The backend that needs no container engine: root, Linux, and a few of the distribution's packages."""

import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testkit.cluster import binaries, janitor
from testkit.cluster.backend import BackendName, Capabilities, Component, Status, Wishes
from testkit.cluster.certificates import ADMIN
from testkit.cluster.errors import ClusterError
from testkit.cluster.images import pause_archive
from testkit.cluster.layout import LOOPBACK, NODE_ADDRESS, NODE_NAME, Layout
from testkit.cluster.local import launch
from testkit.cluster.local.control import ask
from testkit.cluster.packages import NODE, check, check_root
from testkit.cluster.programs import SETS
from tools.cache import cache_folder


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """One node on this machine."""

    state: Path
    """Folder for everything it writes; made by `up`, removed by `down`."""

    @property
    def name(self) -> BackendName:
        """What it is made of."""
        return BackendName.LOCAL

    @property
    def capabilities(self) -> Capabilities:
        """Its volumes are folders of this machine, which kubelet gives to the group of a pod."""
        return Capabilities(gives_volumes_to_group=True, nodes=(NODE_NAME,))

    @property
    def kubeconfig(self) -> Path:
        """For programs of this machine: a port of loopback leads to the API server."""
        return self.state / "kubeconfig"

    def up(self, wishes: Wishes) -> None:
        """Bring it up; what an earlier start left behind is removed first.

        Raises:
            ClusterError: one is up, something is missing, or a step failed.
        """
        if wishes.nodes > 1:
            raise ClusterError("more than one node there is on kind only: FLOWWORKER_CLUSTER=kind")
        check_root()
        check(NODE)
        programs = binaries.build(SETS["node"])
        pause = pause_archive(cache_folder() / "images")
        with launch.only_one(self.state, patience=0.0):
            if launch.find_node(self.state):
                raise ClusterError(
                    "a cluster is up already: use it, or take it down with `python -m testkit.cluster down`"
                )
            if self.state.exists():
                self._remove()
            try:
                self._start(Layout(state=self.state, programs=programs, address=NODE_ADDRESS), wishes, pause)
            except BaseException:
                self._remove()
                raise

    def down(self) -> None:
        """Remove it.

        Raises:
            ClusterError: something is left behind; says what.
        """
        check_root()
        with launch.only_one(self.state, patience=launch.START_PATIENCE):
            self._remove()

    def status(self) -> Status:
        """How it is."""
        if launch.find_node(self.state) is None or not launch.ready_file(self.state).exists():
            return Status(backend=self.name, is_up=False, kubeconfig=self.kubeconfig)
        answer = ask(self._layout, "status")
        return Status(
            backend=self.name,
            is_up=True,
            kubeconfig=self.kubeconfig,
            components=answer["components"],
            seconds=answer["seconds"],
        )

    def run(
        self, command: Sequence[str], *, node: str = "", stdin: str | None = None, deadline: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine in the node's namespaces."""
        return subprocess.run(
            self.inside(command, node=node), input=stdin, capture_output=True, text=True, timeout=deadline, check=False
        )

    def inside(self, command: Sequence[str], *, node: str = "") -> list[str]:
        """The command line that runs another one in the node's namespaces, in the same working folder.

        Raises:
            ClusterError: no cluster is up, or none with this node.
        """
        if node not in ("", NODE_NAME):
            raise ClusterError(f"there is no node {node}, only {NODE_NAME}")
        first = launch.find_node(self.state)
        if first is None:
            raise ClusterError("no cluster is up: `python -m testkit.cluster up`")
        enter = ["nsenter", f"--target={first}", "--net", "--mount", "--pid"]
        kubeconfig = self._layout.kubeconfig(ADMIN)
        return [*enter, "env", f"--chdir={Path.cwd()}", f"KUBECONFIG={kubeconfig}", *command]

    def load_image(self, archive: Path) -> None:
        """Give the images of an archive to containerd."""
        ask(self._layout, "load", str(archive.resolve()))

    def stop_node(self, node: str) -> None:
        """Refuse."""
        raise ClusterError(f"{node} is the only node: FLOWWORKER_CLUSTER=kind has more")

    def start_node(self, node: str) -> None:
        """Refuse."""
        raise ClusterError(f"{node} cannot have been taken away")

    def kill(self, component: Component) -> None:
        """End a daemon by SIGKILL."""
        ask(self._layout, "kill", component)

    def stop(self, component: Component) -> None:
        """End a daemon by SIGTERM, after 30 s by SIGKILL."""
        ask(self._layout, "stop", component)

    def start(self, component: Component) -> None:
        """Start a daemon and wait until it works."""
        ask(self._layout, "start", component)

    def restart(self, component: Component) -> None:
        """Stop a daemon and start it."""
        self.stop(component)
        self.start(component)

    def logs(self, component: Component) -> str:
        """Everything a daemon has written since the cluster came up."""
        log = self._layout.log(component)
        return log.read_text(errors="replace") if log.exists() else ""

    def export_logs(self, folder: Path) -> None:
        """Copy the logs of all daemons, and the API server's audit log."""
        shutil.copytree(self._layout.logs, folder, dirs_exist_ok=True)

    @property
    def _layout(self) -> Layout:
        if not launch.ready_file(self.state).exists():
            raise ClusterError("no cluster is up: `python -m testkit.cluster up`")
        return Layout.load(self.state)

    def _start(self, layout: Layout, wishes: Wishes, pause: Path) -> None:
        launch.begin(self.state)
        if wishes.owner is not None:
            janitor.engage(self.state, wishes.owner, self.name)
        with socket.create_server((LOOPBACK, 0)) as listening:
            launch.prepare(layout, self.kubeconfig, listening.getsockname()[1])
            launch.launch(layout, wishes, pause, listening)

    def _remove(self) -> None:
        if left := launch.remove(self.state):
            raise ClusterError("left behind:\n" + "\n".join(f"  {line}" for line in left))
