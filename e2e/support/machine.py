"""How the machine looks that a cluster runs on, and a cluster that is used so that it could leave something behind."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.conftest import create_namespace
from testkit.cluster.backend import Backend
from testkit.cluster.images import TOOLS_IMAGE
from testkit.support.kubectl import kubectl_says

Object = dict[str, Any]

SETTINGS = (
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/pid_max",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
FOLDERS = (
    "/etc/cni",
    "/etc/docker",
    "/lib/modules",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/docker",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/flowworker",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/var/run/cni",
)
MOUNTS = ("nsfs", "containerd", "kubelet", "flowworker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a cluster could change on a machine, as far as others do not change it all the time."""

    folders: list[str]
    mounts: list[str]
    groups: list[Path]
    links: list[str]
    rules: list[str]
    settings: list[str]
    processes: list[str]

    @classmethod
    def look(cls, state: Path) -> "Machine":
        """How it is now."""
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return cls(
            folders=[name for name in FOLDERS if Path(name).exists()],
            mounts=[line for line in mounts if any(word in line for word in MOUNTS)],
            groups=[*Path("/sys/fs/cgroup").glob("*/flowworker-*"), *Path("/sys/fs/cgroup").glob("flowworker-*")],
            links=_said("ip", "-brief", "link"),
            # Only root sees them.
            rules=[line for line in _said("iptables-save") if line.startswith("-")] if os.geteuid() == 0 else [],
            settings=[Path("/proc/sys", name).read_text() for name in SETTINGS],
            processes=[line for line in _said("ps", "-eo", "args") if str(state) in line],
        )


def use(cluster: Backend) -> None:
    """A pod with a volume and a port of the node: mounts, links and rules that could be left behind."""
    create_namespace(cluster, "used")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    manifests: list[Object] = [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim},
        user(),
    ]
    for manifest in manifests:
        kubectl_says(cluster.kubeconfig, "apply", "--namespace=used", "--filename=-", stdin=manifest)
    kubectl_says(cluster.kubeconfig, "wait", "--namespace=used", "pod/user", "--for=condition=Ready", "--timeout=60s")


def user() -> Object:
    """A pod that has a volume and does nothing."""
    container: Object = {
        "name": "main",
        "image": TOOLS_IMAGE,
        "command": ["sleep", "1000"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec: Object = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"}, "spec": spec}


def _said(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
