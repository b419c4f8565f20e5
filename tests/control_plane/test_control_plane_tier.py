"""The control plane that the other tests stand on: real, shared, breakable, and gone with its last user."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest
from testkit.cluster.api import Api, Object
from testkit.cluster.children import LAST_LINES
from testkit.cluster.control_plane import ROOT, ControlPlane, running
from testkit.cluster.errors import ApiError, ClusterError, StartError
from testkit.cluster.programs import CONTROL_PLANE
from testkit.support.waiting import until

BREAKS = pytest.mark.xdist_group("control-plane-tier")
"""One process runs all of these, so that they share one control plane."""

READ_SECRETS: Object = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}
HOLD_ONE = """
import sys, time
from pathlib import Path
from testkit.cluster.control_plane import ControlPlane
control_plane = ControlPlane.launch({path.name: path for path in map(Path, sys.argv[1:])})
print(control_plane.layout.state, *control_plane.pids().values(), flush=True)
time.sleep(600)
"""
"""Starts a control plane, says where and which processes it has, and keeps it until it is killed."""


def test_our_resource_is_served(control_plane: ControlPlane, namespace: str) -> None:
    assert control_plane.api.get(f"/apis/flowworker.dev/v1alpha1/namespaces/{namespace}/flowworkers")["items"] == []


async def test_controllers_work_for_the_objects_of_a_namespace(control_plane: ControlPlane, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    control_plane.api.create(path, a_deployment())
    pods = f"/api/v1/namespaces/{namespace}/pods"
    await until(lambda: len(control_plane.api.get(pods)["items"]) == 2, "two pods are there")
    control_plane.api.delete(f"{path}/web")
    await until(lambda: not control_plane.api.get(pods)["items"], "the pods are collected")


def test_a_namespace_takes_only_restricted_pods(control_plane: ControlPlane, namespace: str) -> None:
    pod = {"metadata": {"name": "root"}, "spec": {"containers": [{"name": "root", "image": "root:1"}]}}
    with pytest.raises(ApiError, match="violates PodSecurity") as refused:
        control_plane.api.create(f"/api/v1/namespaces/{namespace}/pods", pod)
    assert refused.value.reason == "Forbidden"


def test_a_user_may_do_what_its_rules_say_and_nothing_else(control_plane: ControlPlane, namespace: str) -> None:
    user = Api.from_kubeconfig(control_plane.user(f"reader-{namespace}", [READ_SECRETS], namespace))
    assert user.get(f"/api/v1/namespaces/{namespace}/secrets")["items"] == []
    for elsewhere in (f"/api/v1/namespaces/{namespace}/configmaps", "/api/v1/namespaces/default/secrets"):
        with pytest.raises(ApiError) as refused:
            user.get(elsewhere)
        assert refused.value.reason == "Forbidden"


def test_a_user_without_a_namespace_may_do_it_everywhere(control_plane: ControlPlane, namespace: str) -> None:
    user = Api.from_kubeconfig(control_plane.user(f"everywhere-{namespace}", [READ_SECRETS]))
    assert user.get("/api/v1/secrets")["kind"] == "SecretList"


async def test_the_audit_log_knows_who_asked_for_what(control_plane: ControlPlane, namespace: str) -> None:
    name = f"audited-{namespace}"
    kubeconfig = control_plane.user(name, [READ_SECRETS], namespace)
    Api.from_kubeconfig(kubeconfig).get(f"/api/v1/namespaces/{namespace}/secrets")

    def noted() -> list[Object]:
        return [entry for entry in control_plane.audited() if entry["user"]["username"] == name]

    (entry,) = await until(noted, "the request is noted")
    assert (entry["verb"], entry["objectRef"]["resource"]) == ("list", "secrets")


def test_secrets_are_encrypted_where_they_are_stored(control_plane: ControlPlane, namespace: str) -> None:
    word = f"password-of-{namespace}"
    secret = {"metadata": {"name": "postgres"}, "stringData": {"uri": word}}
    control_plane.api.create(f"/api/v1/namespaces/{namespace}/secrets", secret)
    files = [path for path in (control_plane.layout.state / "etcd").rglob("*") if path.is_file()]
    stored = b"".join(path.read_bytes() for path in files)
    assert f"/registry/secrets/{namespace}/postgres".encode() in stored
    assert word.encode() not in stored


@pytest.fixture(scope="module")
def breakable(programs: Mapping[str, Path]) -> Generator[ControlPlane]:
    """One to stop, kill and freeze; every test leaves it whole."""
    with running(programs) as control_plane:
        yield control_plane


@BREAKS
@pytest.mark.parametrize("component", ["kube-apiserver", "kube-controller-manager"])
def test_a_component_can_be_stopped_and_started(breakable: ControlPlane, component: str) -> None:
    breakable.create_namespace(f"before-{component}", {})
    breakable.stop(component)
    assert set(breakable.pids()) == {*CONTROL_PLANE} - {component}
    breakable.start(component)
    assert set(breakable.pids()) == {*CONTROL_PLANE}
    breakable.create_namespace(f"after-{component}", {})
    assert breakable.api.get(f"/api/v1/namespaces/before-{component}")["status"]["phase"] == "Active"


@BREAKS
def test_an_api_server_that_was_killed_refuses_connections_until_it_is_back(breakable: ControlPlane) -> None:
    breakable.kill("kube-apiserver")
    with pytest.raises(ConnectionRefusedError):
        breakable.api.get("/api/v1/namespaces")
    breakable.start("kube-apiserver")
    assert breakable.api.get("/api/v1/namespaces")


@BREAKS
async def test_what_was_written_survives_a_killed_etcd(breakable: ControlPlane) -> None:
    breakable.create_namespace("kept", {})
    breakable.kill("etcd")
    breakable.start("etcd")
    await until(lambda: answers(breakable), "the API server has its database again")
    assert breakable.api.get("/api/v1/namespaces/kept")["status"]["phase"] == "Active"


@BREAKS
async def test_a_frozen_component_stands_still(breakable: ControlPlane) -> None:
    account = "/api/v1/namespaces/frozen/serviceaccounts/default"
    breakable.freeze("kube-controller-manager")
    try:
        pid = breakable.pids()["kube-controller-manager"]
        await until(lambda: state_of(pid) == "T", "all its threads stand still")
        breakable.api.create("/api/v1/namespaces", {"metadata": {"name": "frozen"}})
        assert breakable.api.find(account) is None
    finally:
        breakable.thaw("kube-controller-manager")
    await until(lambda: breakable.api.find(account) is not None, "the controller has caught up")


@BREAKS
def test_an_own_one_has_our_resource(own_control_plane: ControlPlane) -> None:
    assert own_control_plane.api.get("/apis/flowworker.dev/v1alpha1/flowworkers")["items"] == []


async def test_it_ends_with_its_last_user(programs: Mapping[str, Path]) -> None:
    first = ControlPlane.launch(programs)
    state, pids = first.layout.state, first.pids().values()
    second = ControlPlane.attach(state)
    first.close()
    assert answers(second)
    assert all(exists(pid) for pid in pids)
    second.close()
    await until(lambda: not state.exists() and not any(map(exists, pids)), "nothing of it is left")
    with pytest.raises(OSError, match="No such file"):
        ControlPlane.attach(state)


async def test_nothing_is_left_behind_by_a_killed_user(programs: Mapping[str, Path]) -> None:
    command = [sys.executable, "-c", HOLD_ONE, *map(str, programs.values())]
    user = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert user.stdout is not None
    state, *pids = (await user.stdout.readline()).decode().split()
    user.kill()
    await user.wait()
    await until(lambda: not Path(state).exists() and not any(map(exists, pids)), "nothing of it is left")


async def test_nothing_runs_on_when_its_supervisor_is_killed(programs: Mapping[str, Path]) -> None:
    with running(programs) as control_plane:
        pids = control_plane.pids().values()
        (supervisor,) = {parent_of(pid) for pid in pids}
        os.kill(supervisor, signal.SIGKILL)
        await until(lambda: not any(map(exists, pids)), "the components have ended")
        with pytest.raises(ClusterError, match="supervisor is gone"):
            control_plane.pids()
    shutil.rmtree(control_plane.layout.state)


def test_a_component_that_does_not_start_shows_its_last_words(programs: Mapping[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "kube-apiserver"
    broken.write_text("#!/bin/sh\nseq 1 100\necho no such flag\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(StartError) as refused, running({**programs, "kube-apiserver": broken}):
        pass
    summary, *words = str(refused.value).rstrip().splitlines()
    assert "kube-apiserver ended with 3" in summary
    assert len(words) == LAST_LINES
    assert words[-1] == "no such flag"


def a_deployment() -> Object:
    labels = {"app": "web"}
    pod = {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "web",
                "image": "web:1",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def answers(control_plane: ControlPlane) -> bool:
    try:
        return bool(control_plane.api.get("/api/v1/namespaces/default"))
    except ApiError:
        # It has lost its database a moment ago.
        return False


def exists(pid: int | str) -> bool:
    """Whether a process runs; one that has ended and only waits to be collected does not."""
    try:
        return state_of(pid) != "Z"
    except FileNotFoundError:
        return False


def state_of(pid: int | str) -> str:
    """State letter of a process: T for a frozen one, Z for one that has ended."""
    return facts_of(pid)[0]


def parent_of(pid: int) -> int:
    return int(facts_of(pid)[1])


def facts_of(pid: int | str) -> list[str]:
    """What the kernel shows about a process after its name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
