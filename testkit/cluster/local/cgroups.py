"""Control groups of the node: made where kubelet insists on finding them, removed with everything below."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
HIERARCHIES = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
"""What kubelet and runc use of version 1. kubelet makes its group below `unified` by itself."""
CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
"""What kubelet wants of version 2."""

PATIENCE = 10.0
"""Seconds for the kernel to forget the processes of a group."""


def create_groups(group: str, mount: Path = MOUNT) -> None:
    """Make the node's group in every hierarchy; ready to take processes."""
    if (mount / "cgroup.controllers").exists():
        _enable_controllers(mount)
        (mount / group).mkdir(exist_ok=True)
        return
    for hierarchy in (mount / name for name in HIERARCHIES):
        if hierarchy.is_dir():
            (hierarchy / group).mkdir(exist_ok=True)
    _fill_cpuset(mount / "cpuset", group)


def existing_groups(group: str, mount: Path = MOUNT) -> list[Path]:
    """The node's groups in all hierarchies, of either version."""
    candidates = [mount / group, *(mount / name / group for name in (*HIERARCHIES, "unified"))]
    return [path for path in candidates if path.is_dir()]


def remove_groups(group: str, mount: Path = MOUNT) -> None:
    """Remove the node's groups, whose processes are gone or going; what stays is for the caller to find."""
    deadline = time.monotonic() + PATIENCE
    for top in existing_groups(group, mount):
        for path in _bottom_up(top):
            _remove(path, deadline)


def _enable_controllers(mount: Path) -> None:
    """Pass the controllers on to groups below; most machines do already."""
    control = mount / "cgroup.subtree_control"
    enabled = control.read_text().split()
    offered = (mount / "cgroup.controllers").read_text().split()
    for name in CONTROLLERS:
        if name in offered and name not in enabled:
            control.write_text(f"+{name}")


def _fill_cpuset(hierarchy: Path, group: str) -> None:
    """Version 1 makes these groups empty, and no process enters an empty one."""
    if hierarchy.is_dir():
        for name in ("cpuset.cpus", "cpuset.mems"):
            (hierarchy / group / name).write_text((hierarchy / name).read_text())


def _bottom_up(top: Path) -> Iterator[Path]:
    return (Path(folder) for folder, _, _ in os.walk(top, topdown=False))


def _remove(path: Path, deadline: float) -> None:
    while True:
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        else:
            return
