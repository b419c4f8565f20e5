"""What a cluster needs of the distribution: named where it is missing, installed where that is allowed."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testkit.cluster.errors import ClusterError

TOOLS: Mapping[str, str] = {"/bin/busybox": "busybox-static"}
"""For the pods of tests, on either backend. A file of each Debian or Ubuntu package, and the package."""

NODE: Mapping[str, str] = {
    "/usr/bin/containerd": "containerd",
    "/usr/sbin/runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/ip": "iproute2",
    "/usr/bin/nsenter": "util-linux",
    "/usr/bin/gcc": "gcc",
    "/usr/include/stdlib.h": "libc6-dev",
}
"""For a local node."""

ENGINE: Mapping[str, str] = {
    "/usr/bin/containerd": "containerd",
    "/usr/sbin/runc": "runc",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/ip": "iproute2",
    "/usr/bin/unshare": "util-linux",
    # Brings the one library of docker's that a small Debian lacks.
    "/usr/sbin/dmsetup": "dmsetup",
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/bin/gcc": "gcc",
    "/usr/include/stdlib.h": "libc6-dev",
}
"""For an engine of our own, and for the image of its nodes."""

INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends")


def missing(packages: Mapping[str, str], root: Path = Path("/")) -> list[str]:
    """Those of the packages that are not installed."""
    return [package for file, package in packages.items() if not (root / file.lstrip("/")).exists()]


def check(packages: Mapping[str, str]) -> None:
    """See that everything is there.

    Raises:
        ClusterError: something is missing; says how to install it.
    """
    if lacking := missing(packages):
        raise ClusterError(f"a cluster needs what is not here; as root: {' '.join([*INSTALL, *lacking])}")


def check_root() -> None:
    """See that namespaces can be made.

    Raises:
        ClusterError: we are not root.
    """
    if os.geteuid() != 0:
        raise ClusterError(
            "a local cluster needs root, for namespaces and mounts: use sudo, or install docker or podman for kind"
        )


def install(packages: Mapping[str, str]) -> None:
    """Install what is missing.

    Raises:
        ClusterError: it cannot be installed by us; says by what command.
    """
    lacking = missing(packages)
    if not lacking:
        return
    command = [*INSTALL, *lacking]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(f"run as root (on Debian or Ubuntu): apt-get update && {' '.join(command)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "--quiet"], command):
        if subprocess.run(step, env=environment, check=False).returncode:
            raise ClusterError(f"{' '.join(step)} failed; its output is above")
