"""The life of clusters of kind, from an engine of our own to nodes that vanish.

These tests run before a session's own cluster comes up.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import create_namespace
from e2e.support.machine import Machine, use, user
from testkit.cluster import proc
from testkit.cluster.backend import Component, Wishes
from testkit.cluster.choice import create_backend
from testkit.cluster.engine import launch
from testkit.cluster.engine.place import SUPERVISOR
from testkit.cluster.errors import ClusterError, StartError
from testkit.cluster.images import TOOLS_IMAGE, tools_archive
from testkit.cluster.kind.cluster import PODS, SERVICES, STATIC, KindCluster
from testkit.cluster.kind.record import OWN
from testkit.cluster.local.launch import find_node
from testkit.support.kubectl import kubectl_says
from testkit.support.waiting import until
from tools.build_image.engines import Engine, Recipe, build, builds
from tools.cache import cache_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent

DOCKERFILE = """FROM {base} AS base
FROM scratch
COPY --from=base / /
RUN --mount=type=secret,id=word test "$(cat /run/secrets/word)" = hush && echo read > /said
COPY --chmod=755 program /program
"""


@pytest.fixture
def nothing() -> Iterator[KindCluster]:
    """A backend with nothing up, on a machine that must look the same afterwards."""
    backend = create_backend(os.environ)
    if not isinstance(backend, KindCluster):
        pytest.skip("for kind; test_cluster_life.py has the life of a local node")
    if backend.status().is_up:
        pytest.skip("a cluster is up, and these tests would take it down")
    before = Machine.look(backend.state)
    yield backend
    backend.down()
    assert Machine.look(backend.state) == before


def test_a_cluster_that_is_up_can_be_used_at_once_and_leaves_nothing_behind(nothing: KindCluster) -> None:
    nothing.up(Wishes(images=(tools_archive(cache_folder() / "images"),)))
    components = nothing.status().components
    assert components == dict.fromkeys(sorted(components), "running")
    assert components.keys() == STATIC | SERVICES | PODS
    kubectl_says(nothing.kubeconfig, "get", "--namespace=kube-system", "deployment/coredns", "daemonset/kube-proxy")
    use(nothing)
    with pytest.raises(ClusterError, match="up already"):
        nothing.up(Wishes())
    with proc.held_namespaces(find_node(nothing.state / "engine", SUPERVISOR)) as namespaces:
        nothing.down()
        assert not proc.members(namespaces)
    assert not nothing.state.exists()
    assert not nothing.status().is_up
    nothing.down()


def test_pods_of_two_nodes_reach_each_other_by_names(nothing: KindCluster) -> None:
    nothing.up(Wishes(images=(tools_archive(cache_folder() / "images"),), nodes=2))
    create_namespace(nothing, "two")
    nodes = json.loads(kubectl_says(nothing.kubeconfig, "get", "nodes", "--output=json"))["items"]
    names = sorted(node["metadata"]["name"] for node in nodes)
    assert len(names) == nothing.capabilities.nodes == 2
    for number, name in enumerate(names):
        pod = server(f"server-{number}", name)
        kubectl_says(nothing.kubeconfig, "apply", "--namespace=two", "--filename=-", stdin=pod)
        expose = ["expose", f"pod/server-{number}", "--port=8080"]
        kubectl_says(nothing.kubeconfig, "--namespace=two", *expose)
    wait = ["wait", "--namespace=two", "pods", "--all", "--for=condition=Ready", "--timeout=60s"]
    kubectl_says(nothing.kubeconfig, *wait)
    for one, other in ((0, 1), (1, 0)):
        script = f"nslookup -type=a server-{other}.two.svc.cluster.local && nc -w 3 $SERVER_{other} 8080 < /dev/null"
        address = ["get", f"service/server-{other}", "--output=jsonpath={.spec.clusterIP}"]
        target = kubectl_says(nothing.kubeconfig, "--namespace=two", *address)
        script = script.replace(f"$SERVER_{other}", target)
        kubectl_says(nothing.kubeconfig, "exec", "--namespace=two", f"server-{one}", "--", "sh", "-c", script)


def test_a_cluster_that_crashed_gives_way_to_a_new_one(nothing: KindCluster) -> None:
    if nothing.engine != OWN:
        pytest.skip("an engine of the machine is not killed")
    nothing.up(Wishes())
    node = find_node(nothing.state / "engine", SUPERVISOR)
    assert node is not None
    proc.end([node], signal.SIGKILL, patience=30.0)
    assert not nothing.status().is_up
    nothing.up(Wishes())
    assert nothing.status().is_up


def test_a_cluster_goes_with_its_owner_even_when_that_is_killed(nothing: KindCluster) -> None:
    command = [sys.executable, "-m", "testkit.cluster", "up", "--foreground"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert any("takes the cluster down" in line for line in owner.stdout)
        owner.kill()
    gone = until(lambda: not nothing.state.exists(), "the cluster is gone", patience=120, every=0.5)
    asyncio.run(gone)


def test_a_cluster_that_does_not_come_up_leaves_the_logs_of_its_nodes(
    nothing: KindCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testkit.cluster.kind.cluster.ADDONS", {Component.DNS: "deployment/no-such-thing"})
    with pytest.raises(StartError, match=r"(?s)no-such-thing.*The logs of its nodes are in (\S+)\.") as raised:
        nothing.up(Wishes())
    folder = Path(str(raised.value).rpartition(" in ")[2].rstrip("."))
    kept = [path.name for path in folder.rglob("*")]
    shutil.rmtree(folder)
    assert "kubelet.log" in kept
    assert not nothing.state.exists()


def test_our_dockerfiles_secrets_are_read_with_the_docker_of_the_distribution(
    nothing: KindCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if nothing.engine != OWN:
        pytest.skip("the images of the session are built by the machine's engine")
    engine = launch.start(nothing.state / "engine")
    try:
        for name, value in engine.environment.items():
            monkeypatch.setenv(name, value)
        assert builds(Engine.DOCKER)
        subprocess.run(
            ["docker", "load", f"--input={tools_archive(cache_folder() / 'images')}"], check=True, timeout=60
        )
        (tmp_path / "program").touch()
        (tmp_path / "word").write_text("hush")
        (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(base=TOOLS_IMAGE))
        recipe = Recipe(
            dockerfile=tmp_path / "Dockerfile", context=tmp_path, tags=["localhost/made:1"], epoch=0,
            secrets={"word": tmp_path / "word"},
        )  # fmt: skip
        build(Engine.DOCKER, recipe)
    finally:
        launch.stop(nothing.state / "engine")


def server(name: str, node: str) -> Object:
    """A pod that listens, on a node."""
    pod = user()
    pod["metadata"] = {"name": name, "labels": {"name": name}}
    (container,) = pod["spec"]["containers"]
    container["command"] = ["httpd", "-f", "-p", "8080", "-h", "/bin"]
    container["volumeMounts"] = []
    pod["spec"] |= {"nodeName": node, "volumes": []}
    return pod
