"""The life of a local cluster: it refuses to be doubled, and whatever ends it leaves nothing behind.

These tests run before a session's own cluster comes up.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import create_namespace
from e2e.support.machine import Machine, use, user
from testkit.cluster import binaries, proc
from testkit.cluster.backend import Backend, BackendName, Component, Wishes
from testkit.cluster.choice import create_backend
from testkit.cluster.daemons import FAKE_NODE_ANNOTATION
from testkit.cluster.errors import ClusterError, StartError
from testkit.cluster.images import tools_archive
from testkit.cluster.local.cluster import LocalCluster
from testkit.cluster.local.launch import find_node
from testkit.cluster.programs import SETS
from testkit.support.kubectl import kubectl_says
from testkit.support.waiting import until
from tools.cache import cache_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "testkit.cluster"]


@pytest.fixture
def nothing(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A backend with nothing up, on a machine that must look the same afterwards."""
    backend = create_backend(os.environ)
    if backend.name is not BackendName.LOCAL:
        pytest.skip("kind sees to this by itself")
    if backend.status().is_up:
        pytest.skip("a cluster is up, and these tests would take it down")
    state = backend.kubeconfig.parent
    before = Machine.look(state)
    yield backend
    backend.down()
    assert Machine.look(state) == before


def test_down_leaves_nothing_behind_of_a_cluster_that_was_used(nothing: Backend) -> None:
    state = nothing.kubeconfig.parent
    nothing.up(Wishes(images=(tools_archive(cache_folder() / "images"),), kwok=True))
    use(nothing)
    with proc.held_namespaces(find_node(state)) as namespaces:
        assert proc.members(namespaces)
        nothing.down()
        assert not proc.members(namespaces)
    assert not state.exists()


def test_simulated_nodes_stand_beside_the_real_one_and_run_simulated_pods(nothing: Backend) -> None:
    nothing.up(Wishes(kwok=True))
    create_namespace(nothing, "simulated")
    annotation, _, value = FAKE_NODE_ANNOTATION.partition("=")
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "fake-0", "annotations": {annotation: value}},
        "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "100"}},
    }
    pod = user()
    pod["spec"]["nodeName"] = "fake-0"
    for manifest in (node, pod):
        kubectl_says(nothing.kubeconfig, "apply", "--namespace=simulated", "--filename=-", stdin=manifest)
    for subject in ("node/fake-0", "node/node-0", "pod/user"):
        wait = ["wait", "--namespace=simulated", subject, "--for=condition=Ready", "--timeout=60s"]
        kubectl_says(nothing.kubeconfig, *wait)


def test_down_twice_is_down(nothing: Backend) -> None:
    nothing.down()
    nothing.down()
    assert not nothing.status().is_up


def test_one_cluster_refuses_another(nothing: Backend) -> None:
    nothing.up(Wishes())
    with pytest.raises(ClusterError, match="up already"):
        nothing.up(Wishes())
    assert nothing.status().is_up


def test_a_cluster_that_crashed_gives_way_to_a_new_one(nothing: Backend) -> None:
    nothing.up(Wishes())
    node = find_node(nothing.kubeconfig.parent)
    assert node is not None
    proc.end([node], signal.SIGKILL, patience=30.0)
    assert not nothing.status().is_up
    nothing.up(Wishes())
    assert nothing.status().is_up


def test_two_clusters_with_folders_of_their_own_do_not_disturb_each_other(nothing: Backend, tmp_path: Path) -> None:
    other = LocalCluster(tmp_path / "other")
    nothing.up(Wishes())
    try:
        other.up(Wishes(images=(tools_archive(cache_folder() / "images"),)))
        nothing.down()
        use(other)
    finally:
        other.down()


async def test_a_cluster_goes_with_its_owner_even_when_that_is_killed(nothing: Backend) -> None:
    with _foreground() as owner:
        owner.kill()
        owner.wait()
    await until(lambda: not nothing.kubeconfig.parent.exists(), "the cluster is gone")


def test_a_cluster_in_the_foreground_goes_at_sigterm(nothing: Backend) -> None:
    with _foreground() as owner:
        owner.terminate()
        assert owner.wait(timeout=60) == 0
    assert not nothing.kubeconfig.parent.exists()


def test_a_daemon_that_does_not_start_is_named_with_its_last_words(
    nothing: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "kubelet"
    broken.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    broken.chmod(0o755)
    programs = {**binaries.build(SETS["node"]), "kubelet": broken}

    def build(_: object) -> dict[str, Path]:
        return programs

    monkeypatch.setattr(binaries, "build", build)
    with pytest.raises(StartError, match=r"(?s)kubelet ended with 3.*no such luck"):
        nothing.up(Wishes())
    assert not nothing.kubeconfig.parent.exists()


def test_a_daemon_of_the_cluster_can_be_kept_from_running(nothing: Backend) -> None:
    nothing.up(Wishes())
    nothing.stop(Component.SCHEDULER)
    assert nothing.status().components[Component.SCHEDULER].startswith("ended with")
    nothing.start(Component.SCHEDULER)
    assert nothing.status().components[Component.SCHEDULER] == "running"


def _foreground() -> subprocess.Popen[str]:
    """A cluster that runs in the foreground, as in a terminal, once it is up."""
    process = subprocess.Popen([*COMMAND, "up", "--foreground"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "takes the cluster down" in line:
            return process
    raise AssertionError("the cluster did not come up")
