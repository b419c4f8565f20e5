"""One real control plane for the whole session, shared by all processes of pytest-xdist, and ready in seconds.

It has etcd, API server and controller manager, but no scheduler and no node: pods are made and stay Pending. The first
process that needs it starts it; it ends by itself when the last one is done with it, or was killed.
"""

import os
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from testkit.cluster.binaries import build
from testkit.cluster.control_plane import ControlPlane, running
from testkit.cluster.errors import BuildError, ClusterError
from testkit.cluster.programs import CONTROL_PLANE
from tests.chaos.arena import Arena, new_arena
from tools.cache import locked

DEFINITION = Path(__file__).parents[2] / "crds" / "flowworkers.flowworker.dev.yaml"
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies in this folder carries the marker."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.control_plane)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test starts: the time limit of a test is too short to compile Kubernetes in."""
    wanted = any(item.get_closest_marker("control_plane") for item in session.items)
    if wanted and not session.config.option.collectonly:
        # What went wrong is for the fixture to say.
        with suppress(BuildError):
            build(CONTROL_PLANE)


@pytest.fixture(scope="session")
def programs() -> Mapping[str, Path]:
    """The daemons, built when this machine does not have them yet."""
    return build(CONTROL_PLANE)


@pytest.fixture(scope="session")
def definition() -> dict[str, Any]:
    """Our CustomResourceDefinition."""
    return yaml.safe_load(DEFINITION.read_text())


@pytest.fixture(scope="session")
def control_plane(
    tmp_path_factory: pytest.TempPathFactory, programs: Mapping[str, Path], definition: dict[str, Any]
) -> Generator[ControlPlane]:
    """The session's control plane with our resource installed; tests must not stop, freeze or restart any of it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with closing(share(shared, programs, definition)) as used:
        yield used
        assert set(used.pids()) == set(CONTROL_PLANE), "a component of the control plane ended by itself"


@pytest.fixture
def own_control_plane(programs: Mapping[str, Path], definition: dict[str, Any]) -> Generator[ControlPlane]:
    """A control plane for one test, which may break it; has our resource installed and takes some seconds."""
    with running(programs) as control_plane:
        control_plane.install(definition)
        yield control_plane


@pytest.fixture(scope="session")
def arena() -> Generator[Arena]:
    """A database server for all tests that have workers."""
    with new_arena() as arena:
        yield arena


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Generator[str]:
    """A fresh namespace that takes only restricted pods, deleted after the test."""
    name = f"test-{uuid4().hex[:10]}"
    control_plane.create_namespace(name, RESTRICTED)
    yield name
    control_plane.api.delete(f"/api/v1/namespaces/{name}")


def share(folder: Path, programs: Mapping[str, Path], definition: dict[str, Any]) -> ControlPlane:
    """Use the control plane whose folder is noted here, or start one and note it."""
    note = folder / "control-plane"
    with locked(note.with_suffix(".lock")):
        if note.exists():
            try:
                return ControlPlane.attach(Path(note.read_text()))
            except (OSError, ClusterError):
                # It ended with the last process that used it; this one comes late.
                note.unlink()
        control_plane = ControlPlane.launch(programs)
        try:
            control_plane.install(definition)
            # Its garbage collector looks for new kinds at its start, and then only twice a minute.
            control_plane.restart("kube-controller-manager")
        except BaseException:
            control_plane.close()
            raise
        note.write_text(str(control_plane.layout.state))
        return control_plane
