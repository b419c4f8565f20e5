"""The life of clusters of kind: in an engine of our own, and in one that is taken for the machine's.

These tests run before a session's own cluster comes up.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.support.machine import Machine, use
from testkit.cluster import proc
from testkit.cluster.backend import CHOICE_VARIABLE, STATE_VARIABLE, Component, Wishes
from testkit.cluster.choice import create_backend, needed
from testkit.cluster.engine import launch
from testkit.cluster.engine.client import Engine
from testkit.cluster.engine.place import SUPERVISOR
from testkit.cluster.errors import ClusterError, StartError
from testkit.cluster.images import TOOLS_IMAGE, tools_archive
from testkit.cluster.kind.cluster import PODS, SERVICES, STATIC, KindCluster
from testkit.cluster.kind.configuration import Document, Host, own_configuration
from testkit.cluster.kind.node_image import node_image
from testkit.cluster.kind.record import OWN
from testkit.cluster.local.launch import find_node
from testkit.support.kubectl import kubectl_says
from testkit.support.waiting import until
from tools.build_image.engines import Engine as Builder
from tools.build_image.engines import Recipe, build, builds
from tools.cache import cache_folder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

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


@pytest.fixture
def engine(nothing: KindCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A docker that is taken for the machine's own."""
    if nothing.engine != OWN:
        pytest.skip("the machine has an engine; what is in it is not for tests")
    started = launch.start(tmp_path / "engine")
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    yield started
    launch.stop(tmp_path / "engine")


def test_a_cluster_that_is_up_can_be_used_at_once_and_leaves_nothing_behind(nothing: KindCluster) -> None:
    nothing.up(Wishes(images=(tools_archive(cache_folder() / "images"),)))
    components = nothing.status().components
    for component in [each for each in Component if each is not Component.KWOK]:
        assert nothing.logs(component), f"{component} has logged nothing"
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


def test_a_cluster_that_crashed_gives_way_to_a_new_one_which_goes_with_its_owner_even_when_that_is_killed(
    nothing: KindCluster,
) -> None:
    if nothing.engine != OWN:
        pytest.skip("an engine of the machine is not killed")
    nothing.up(Wishes())
    node = find_node(nothing.state / "engine", SUPERVISOR)
    assert node is not None
    proc.end([node], signal.SIGKILL, patience=30.0)
    assert not nothing.status().is_up
    command = [sys.executable, "-m", "testkit.cluster", "up", "--foreground"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert any("takes the cluster down" in line for line in owner.stdout)
        assert nothing.status().is_up
        owner.kill()
    asyncio.run(until(lambda: not nothing.state.exists(), "the cluster is gone", patience=120, every=0.5))


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


def test_our_dockerfiles_secrets_are_read_with_the_docker_of_the_distribution(engine: Engine, tmp_path: Path) -> None:
    assert builds(Builder.DOCKER)
    load(engine, tools_archive(cache_folder() / "images"))
    (tmp_path / "program").touch()
    (tmp_path / "word").write_text("hush")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(base=TOOLS_IMAGE))
    recipe = Recipe(
        dockerfile=tmp_path / "Dockerfile", context=tmp_path, tags=["localhost/made:1"], epoch=0,
        secrets={"word": tmp_path / "word"},
    )  # fmt: skip
    build(Builder.DOCKER, recipe)


def test_a_cluster_in_an_engine_of_the_machine_needs_nothing_else_and_gives_it_back_as_it_was(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {CHOICE_VARIABLE: "kind", STATE_VARIABLE: str(tmp_path / "state")}
    assert needed(environment, tests=False) == {}
    kind = create_backend(environment)
    assert isinstance(kind, KindCluster)
    assert kind.engine == "docker"
    if Host.look().old_groups:
        with pytest.raises(ClusterError, match="control groups of version 1"):
            kind.up(Wishes())
        assert not kind.state.exists()
    # A registry has kind's own images; ours puts up with old control groups.
    image = node_image()
    load(engine, image.archive)

    def configuration(_: str, nodes: int) -> Document:
        return own_configuration(image.name, nodes, Host.look(), engine.port)

    def has_old_groups(_: str) -> bool:
        return False

    monkeypatch.setattr("testkit.cluster.kind.cluster.configuration", configuration)
    monkeypatch.setattr("testkit.cluster.engine.client.has_old_groups", has_old_groups)
    networks, settings = said(engine, "network", "ls", "--quiet"), Machine.look(kind.state).settings
    kind.up(Wishes())
    assert kind.status().is_up
    assert said(engine, "network", "ls", "--quiet") != networks
    with monkeypatch.context() as silent:
        silent.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing")
        for use in (kind.status, kind.down):
            with pytest.raises(ClusterError, match="a cluster is here, in docker, which does not answer"):
                use()
    kind.down()
    assert said(engine, "network", "ls", "--quiet") == networks
    assert said(engine, "ps", "--all", "--quiet") == ""
    assert Machine.look(kind.state).settings == settings
    assert not kind.state.exists()


def load(engine: Engine, archive: Path) -> None:
    """Give an image to an engine."""
    said(engine, "load", "--quiet", f"--input={archive}")


def said(engine: Engine, *arguments: str) -> str:
    """What an engine says."""
    environment = {**os.environ, **engine.environment}
    command = [engine.program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300).stdout
