"""The kind backend says the right words to kind and to the container engine, argument by argument."""

import json
from pathlib import Path

import pytest
from testkit.cluster.backend import Component, Wishes
from testkit.cluster.errors import ClusterError
from testkit.cluster.kind import NODE_IMAGES, KindCluster
from tests.cluster.stand_in import StandIn

NODE = "flowworker-control-plane"


@pytest.fixture
def programs(tmp_path: Path) -> StandIn:
    folder = tmp_path / "bin"
    folder.mkdir()
    return StandIn(folder)


@pytest.fixture
def kind(programs: StandIn, tmp_path: Path) -> KindCluster:
    return KindCluster(
        state=tmp_path / "state",
        program=programs.program("kind"),
        engine=programs.program("docker"),
        version="1.35",
    )


@pytest.mark.parametrize("version", NODE_IMAGES)
def test_a_cluster_is_created_from_a_file_that_names_the_node_image_by_digest(
    programs: StandIn, tmp_path: Path, version: str
) -> None:
    state = tmp_path / "state"
    cluster = KindCluster(state=state, program=programs.program("kind"), engine="docker", version=version)
    cluster.up(Wishes(images=(Path("/images/worker.tar"),)))
    assert programs.calls() == [
        ["kind", "get", "clusters"],
        [
            "kind", "create", "cluster", "--name", "flowworker", "--config", f"{state}/kind.json",
            "--kubeconfig", f"{state}/kubeconfig", "--wait", "180s",
        ],
        ["kind", "load", "image-archive", "/images/worker.tar", "--name", "flowworker"],
    ]  # fmt: skip
    (node,) = json.loads((state / "kind.json").read_text())["nodes"]
    assert node["role"] == "control-plane"
    assert node["image"].startswith(f"kindest/node:v{version}.")
    assert "@sha256:" in node["image"]


def test_a_cluster_that_is_there_is_not_created_again(programs: StandIn, kind: KindCluster) -> None:
    programs.answer("get clusters", "other\nflowworker\n")
    with pytest.raises(ClusterError, match="up already"):
        kind.up(Wishes())
    assert programs.calls() == [["kind", "get", "clusters"]]


def test_a_cluster_that_cannot_be_created_is_deleted_and_kinds_words_are_passed_on(
    programs: StandIn, kind: KindCluster
) -> None:
    programs.answer("create cluster", "no space left", code=1)
    with pytest.raises(ClusterError, match="no space left"):
        kind.up(Wishes())
    assert programs.calls()[-1] == [
        "kind", "delete", "cluster", "--name", "flowworker", "--kubeconfig", str(kind.kubeconfig),
    ]  # fmt: skip
    assert not kind.state.exists()


def test_simulated_nodes_are_refused_with_the_way_to_have_them(kind: KindCluster) -> None:
    with pytest.raises(ClusterError, match="FLOWWORKER_CLUSTER=local"):
        kind.up(Wishes(kwok=True))


def test_down_deletes_the_cluster_and_its_folder(programs: StandIn, kind: KindCluster) -> None:
    kind.up(Wishes())
    programs.calls()
    kind.down()
    assert programs.calls() == [
        ["kind", "delete", "cluster", "--name", "flowworker", "--kubeconfig", str(kind.kubeconfig)]
    ]
    assert not kind.state.exists()


def test_kind_is_told_which_engine_to_use(kind: KindCluster, programs: StandIn) -> None:
    Path(programs.program("kind")).write_text('#!/bin/sh\necho "$KIND_EXPERIMENTAL_PROVIDER" >&2\nexit 1\n')
    with pytest.raises(ClusterError, match=f"ended with 1:\n{kind.engine}"):
        kind.status()


def test_status_tells_what_runs(programs: StandIn, kind: KindCluster) -> None:
    programs.answer("get clusters", "flowworker\n")
    containers = [
        {"metadata": {"name": "etcd"}, "state": "CONTAINER_RUNNING"},
        {"metadata": {"name": "kube-apiserver"}, "state": "CONTAINER_EXITED"},
        {"metadata": {"name": "local-path-provisioner"}, "state": "CONTAINER_RUNNING"},
    ]
    programs.answer("crictl ps --all", json.dumps({"containers": containers}))
    status = kind.status()
    assert status.is_up
    assert status.components == {"etcd": "running", "kube-apiserver": "CONTAINER_EXITED"}


def test_a_cluster_that_is_not_there_is_down(programs: StandIn, kind: KindCluster) -> None:
    programs.answer("get clusters", "other\n")
    assert not kind.status().is_up


def test_commands_run_in_the_node_with_its_kubeconfig(programs: StandIn, kind: KindCluster) -> None:
    programs.answer("exec --interactive", "said")
    assert kind.run(["ip", "address"], stdin="").stdout == "said"
    assert programs.calls() == [
        ["docker", "exec", "--interactive", "--env=KUBECONFIG=/etc/kubernetes/admin.conf", NODE, "ip", "address"]
    ]


@pytest.mark.parametrize("component", [Component.ETCD, Component.API_SERVER, Component.PROXY, Component.DNS])
def test_a_component_in_a_container_is_killed_in_the_node(
    programs: StandIn, kind: KindCluster, component: Component
) -> None:
    programs.answer("crictl ps --quiet", "aa11\nbb22\n")
    kind.kill(component)
    assert programs.calls() == [
        ["docker", "exec", NODE, "crictl", "ps", "--quiet", f"--name=^{component}$"],
        ["docker", "exec", NODE, "crictl", "stop", "--timeout=0", "aa11"],
        ["docker", "exec", NODE, "crictl", "stop", "--timeout=0", "bb22"],
    ]


@pytest.mark.parametrize("component", [Component.KUBELET, Component.CONTAINERD])
def test_a_service_of_the_node_is_killed_stopped_started_and_restarted_by_systemd(
    programs: StandIn, kind: KindCluster, component: Component
) -> None:
    kind.kill(component)
    kind.stop(component)
    kind.start(component)
    kind.restart(component)
    assert programs.calls() == [
        ["docker", "exec", NODE, "systemctl", "kill", "--signal=SIGKILL", component],
        ["docker", "exec", NODE, "systemctl", "stop", component],
        ["docker", "exec", NODE, "systemctl", "start", component],
        ["docker", "exec", NODE, "systemctl", "restart", component],
    ]


def test_a_static_pod_is_kept_from_running_by_taking_its_manifest_away(programs: StandIn, kind: KindCluster) -> None:
    kind.stop(Component.SCHEDULER)
    there, aside = "/etc/kubernetes/manifests/kube-scheduler.yaml", "/etc/kubernetes/kube-scheduler.yaml"
    assert programs.calls() == [
        ["docker", "exec", NODE, "mv", there, aside],
        ["docker", "exec", NODE, "crictl", "ps", "--quiet", "--name=^kube-scheduler$"],
    ]
    programs.answer("crictl ps --quiet", "cc33\n")
    kind.start(Component.SCHEDULER)
    assert programs.calls() == [
        ["docker", "exec", NODE, "sh", "-c", f"test ! -e {aside} || mv {aside} {there}"],
        ["docker", "exec", NODE, "crictl", "ps", "--quiet", "--name=^kube-scheduler$"],
    ]


def test_what_kubernetes_starts_again_cannot_be_kept_from_running(kind: KindCluster) -> None:
    assert Component.DNS not in kind.capabilities.stoppable
    with pytest.raises(ClusterError, match="cannot keep coredns from running"):
        kind.stop(Component.DNS)


def test_a_restart_waits_for_another_container(
    programs: StandIn, kind: KindCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = iter([["old"], ["old"], [], ["new"]])

    def containers(_: KindCluster, __: Component) -> list[str]:
        return next(listed)

    monkeypatch.setattr(KindCluster, "_containers", containers)
    monkeypatch.setattr("testkit.cluster.kind.LOOK_EVERY", 0.0)
    kind.restart(Component.ETCD)
    assert programs.calls() == [["docker", "exec", NODE, "crictl", "stop", "--timeout=30", "old"]]
    assert next(listed, None) is None


def test_a_component_that_does_not_come_back_is_named(
    programs: StandIn, kind: KindCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testkit.cluster.kind.COMPONENT_PATIENCE", 0.0)
    programs.answer("crictl ps --quiet", "")
    with pytest.raises(ClusterError, match="in vain: etcd runs"):
        kind.start(Component.ETCD)


def test_logs_come_from_the_container_or_from_the_journal(programs: StandIn, kind: KindCluster) -> None:
    programs.answer("crictl ps --quiet", "dd44\n")
    programs.answer("crictl logs", "etcd says\n")
    programs.answer("journalctl", "kubelet says\n")
    assert kind.logs(Component.ETCD) == "etcd says\n"
    assert kind.logs(Component.KUBELET) == "kubelet says\n"
    assert programs.calls()[1:] == [
        ["docker", "exec", NODE, "crictl", "logs", "dd44"],
        ["docker", "exec", NODE, "journalctl", "--no-pager", "--unit=kubelet"],
    ]


def test_all_logs_are_collected_by_kind(programs: StandIn, kind: KindCluster) -> None:
    kind.export_logs(Path("/logs"))
    assert programs.calls() == [["kind", "export", "logs", "/logs", "--name", "flowworker"]]
