"""Which backend is used, and where it keeps its state."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from testkit.cluster import binaries
from testkit.cluster.backend import CHOICE_VARIABLE, STATE_VARIABLE, Backend, BackendName
from testkit.cluster.errors import ClusterError
from testkit.cluster.kind import NODE_IMAGES, VERSION_VARIABLE, KindCluster, configuration_file
from testkit.cluster.local.cluster import LocalCluster
from testkit.cluster.local.launch import undo_file

ENGINES = ("docker", "podman")


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
        return _of_cluster(state) or (BackendName.KIND if engine() else BackendName.LOCAL)
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


def engine() -> str | None:
    """The first container engine that answers."""
    return next((name for name in ENGINES if _answers(name)), None)


def _of_cluster(state: Path) -> BackendName | None:
    """The backend of the cluster whose state lies here."""
    marks = {BackendName.LOCAL: undo_file(state), BackendName.KIND: configuration_file(state)}
    return next((name for name, mark in marks.items() if mark.exists()), None)


def _create_kind(state: Path, environment: Mapping[str, str]) -> KindCluster:
    found = engine()
    if found is None:
        raise ClusterError(f"kind needs docker or podman, and neither answers: unset {CHOICE_VARIABLE}")
    version = environment.get(VERSION_VARIABLE) or next(iter(NODE_IMAGES))
    if version not in NODE_IMAGES:
        raise ClusterError(f"{VERSION_VARIABLE} is {version!r}; it can be {', '.join(NODE_IMAGES)}, or unset")
    program = binaries.build(["kind"])["kind"]
    return KindCluster(state=state, program=str(program), engine=found, version=version)


def _answers(program: str) -> bool:
    if shutil.which(program) is None:
        return False
    try:
        done = subprocess.run([program, "info"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
