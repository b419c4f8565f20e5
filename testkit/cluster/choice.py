"""Which backend is used, and where it keeps its state."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from testkit.cluster import binaries
from testkit.cluster.backend import CHOICE_VARIABLE, STATE_VARIABLE, Backend, BackendName
from testkit.cluster.engine.client import first_answering
from testkit.cluster.errors import ClusterError
from testkit.cluster.kind.cluster import KindCluster
from testkit.cluster.kind.configuration import NODE_IMAGES
from testkit.cluster.kind.record import OWN, Record, record_file
from testkit.cluster.local.cluster import LocalCluster
from testkit.cluster.local.launch import undo_file
from testkit.cluster.packages import ENGINE, NODE, TOOLS

VERSION_VARIABLE = "FLOWWORKER_KUBERNETES"
"""Minor version of Kubernetes, one of those in NODE_IMAGES; unset: the first. Without a registry there is one only."""


def create_backend(environment: Mapping[str, str]) -> Backend:
    """The backend that was asked for, else that of the cluster that is there, else the best that this machine can do.

    Raises:
        ClusterError: what was asked for cannot be had here.
    """
    state = state_folder(environment)
    match choose(environment, state):
        case BackendName.LOCAL:
            return LocalCluster(state)
        case BackendName.KIND:
            return _create_kind(state, environment)
        case _ as unknown:
            assert_never(unknown)


def choose(environment: Mapping[str, str], state: Path) -> BackendName:
    """Name of the backend to use: kind where a container engine answers, unless something else is known.

    Raises:
        ClusterError: another one was asked for than there are.
    """
    wanted = environment.get(CHOICE_VARIABLE)
    if not wanted:
        return _of_cluster(state) or (BackendName.KIND if first_answering() else BackendName.LOCAL)
    if wanted not in [*BackendName]:
        raise ClusterError(f"{CHOICE_VARIABLE} is {wanted!r}; it can be {' or '.join(BackendName)}, or unset")
    return BackendName(wanted)


def state_folder(environment: Mapping[str, str]) -> Path:
    """Where a cluster keeps everything it writes."""
    if chosen := environment.get(STATE_VARIABLE):
        return Path(chosen).resolve()
    if base := environment.get("XDG_STATE_HOME"):
        return Path(base).resolve() / "flowworker" / "cluster"
    return Path("/var/lib/flowworker/cluster") if os.geteuid() == 0 else Path.home() / ".local/state/flowworker/cluster"


def needed(environment: Mapping[str, str], *, tests: bool) -> Mapping[str, str]:
    """What is needed of the distribution; for people, nothing where a container engine of the machine is used.

    Args:
        environment: Says which backend is used.
        tests: For tests, whose pods run programs of this machine.
    """
    match choose(environment, state_folder(environment)):
        case BackendName.LOCAL:
            return {**TOOLS, **NODE}
        case BackendName.KIND if first_answering() is None:
            return {**TOOLS, **ENGINE}
        case BackendName.KIND:
            return TOOLS if tests else {}
        case _ as unknown:
            assert_never(unknown)


def _of_cluster(state: Path) -> BackendName | None:
    """The backend of the cluster whose state lies here."""
    marks = {BackendName.LOCAL: undo_file(state), BackendName.KIND: record_file(state)}
    return next((name for name, mark in marks.items() if mark.exists()), None)


def _create_kind(state: Path, environment: Mapping[str, str]) -> KindCluster:
    record = Record.read(state)
    version = environment.get(VERSION_VARIABLE) or next(iter(NODE_IMAGES))
    if version not in NODE_IMAGES:
        raise ClusterError(f"{VERSION_VARIABLE} is {version!r}; it can be {', '.join(NODE_IMAGES)}, or unset")
    used = record.engine if record else _choose_engine()
    program = binaries.build(["kind"])["kind"]
    return KindCluster(state=state, program=str(program), engine=used, version=version)


def _choose_engine() -> str:
    """The machine's own engine, else one of ours."""
    if found := first_answering():
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return OWN
    raise ClusterError("kind needs docker or podman, and neither answers; as root on Debian it starts a docker itself")
