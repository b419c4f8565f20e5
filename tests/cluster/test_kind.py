"""What kind is asked for, and what is said without a container engine; `e2e` has the rest, on a real one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from testkit.cluster.backend import BackendName, Wishes
from testkit.cluster.engine.runtime import NAMES, held, lessened
from testkit.cluster.errors import ClusterError
from testkit.cluster.kind.cluster import KindCluster
from testkit.cluster.kind.configuration import NODE_IMAGES, Host, configuration, own_configuration
from testkit.cluster.kind.record import OWN, Record
from testkit.cluster.local.undo import CHANGED, Undo
from tests.cluster.stand_in import StandIn

HOST = Host(old_groups=False, open_files=4096)


def patches(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Patches of a configuration by what they change."""
    return {patch["kind"]: patch for patch in map(json.loads, document["kubeadmConfigPatches"])}


@pytest.fixture
def programs(tmp_path: Path) -> StandIn:
    folder = tmp_path / "bin"
    folder.mkdir()
    return StandIn(folder)


@pytest.mark.parametrize("version", NODE_IMAGES)
def test_a_node_image_of_a_registry_is_named_by_its_digest(version: str) -> None:
    (node,) = configuration(version, 1)["nodes"]
    assert node["role"] == "control-plane"
    assert node["image"].startswith(f"kindest/node:v{version}.")
    assert "@sha256:" in node["image"]


def test_pods_run_on_every_node_of_several() -> None:
    first, second = configuration("1.36", 2)["nodes"]
    assert patches(first)["InitConfiguration"]["nodeRegistration"] == {"taints": []}
    assert second == {"role": "worker", "image": first["image"]}


def test_an_engine_of_ours_has_the_api_server_where_this_machine_looks_for_it() -> None:
    network = own_configuration("localhost/node:1", 1, HOST, 12345)["networking"]
    assert (network["apiServerAddress"], network["apiServerPort"]) == ("127.0.0.1", 12345)


@pytest.mark.parametrize("old", [True, False])
def test_kubelet_puts_up_with_old_control_groups_only_where_they_are(old: bool) -> None:
    document = own_configuration("localhost/node:1", 1, Host(old_groups=old, open_files=4096), 12345)
    kubelet = patches(document)["KubeletConfiguration"]
    assert kubelet.get("failCgroupV1", True) is not old
    assert kubelet["maxOpenFiles"] == 4096


def test_a_container_is_not_asked_for_what_the_machine_has_lost() -> None:
    number = NAMES.index("sys_resource")
    allowed = held(f"Name:\tx\nCapBnd:\t{(1 << len(NAMES)) - 1 - (1 << number):016x}\n")
    asked = {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"], "effective": ["CAP_SYS_RESOURCE"]}
    kept = {"bounding": ["CAP_CHOWN"], "effective": []}
    container = {"process": {"args": ["init"], "capabilities": asked}, "root": {}}
    assert lessened(container, allowed) == {"process": {"args": ["init"], "capabilities": kept}, "root": {}}
    assert lessened({"args": ["ls"], "capabilities": asked}, allowed) == {"args": ["ls"], "capabilities": kept}
    assert lessened({"args": ["ls"]}, allowed)["args"] == ["ls"]


def test_the_names_of_capabilities_are_in_the_order_of_the_kernel() -> None:
    numbered = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/sys/kernel/cap_last_cap').read())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert int(numbered.stdout) < len(NAMES)
    assert (NAMES[0], NAMES[12], NAMES[21], NAMES[24]) == ("chown", "net_admin", "sys_admin", "sys_resource")


def test_what_is_known_of_a_cluster_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert Record.read(tmp_path) is None
    record = Record(engine="podman", nodes=2, keeps_network=True, before=Undo(settings={"a": "1"}, folders=("/x",)))
    record.write(tmp_path)
    assert Record.read(tmp_path) == record


def test_settings_that_nodes_change_are_remembered_and_only_given_back(tmp_path: Path) -> None:
    for name in CHANGED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("7\n")
    before = Undo.watch(tmp_path)
    before.change(tmp_path)
    assert {(tmp_path / name).read_text() for name in CHANGED} == {"7\n"}
    for name in CHANGED:
        (tmp_path / name).write_text("8\n")
    before.revert(tmp_path)
    assert {(tmp_path / name).read_text() for name in CHANGED} == {"7"}


def test_simulated_nodes_are_refused_with_the_way_to_have_them(tmp_path: Path) -> None:
    kind = KindCluster(state=tmp_path / "state", program="kind", engine=OWN, version="1.36")
    with pytest.raises(ClusterError, match="FLOWWORKER_CLUSTER=local"):
        kind.up(Wishes(kwok=True))
    assert kind.name is BackendName.KIND


def test_a_cluster_whose_engine_has_stopped_is_said_to_be_in_it(
    programs: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("docker", "kind"):
        programs.program(name)
        programs.answer("", "Cannot connect to the Docker daemon", code=1)
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")
    kind = KindCluster(state=tmp_path / "state", program=str(programs.folder / "kind"), engine="docker", version="1.36")
    kind.state.mkdir()
    Record(engine="docker", nodes=1, keeps_network=True, before=Undo(settings={}, folders=())).write(kind.state)
    for use in (kind.status, kind.down, lambda: kind.up(Wishes())):
        with pytest.raises(ClusterError, match="a cluster is here, in docker, which does not answer: start docker"):
            use()
    assert Record.read(kind.state) is not None, "down can be tried again"
    programs.answer("", "")
    kind.down()
    assert not kind.state.exists()


def test_old_control_groups_are_named_with_the_cure_before_anything_is_made(
    programs: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.program("docker")
    programs.answer("CgroupVersion", "1\n")
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")
    kind = KindCluster(state=tmp_path / "state", program=programs.program("kind"), engine="docker", version="1.36")
    with pytest.raises(ClusterError, match=r"version 1.*systemd\.unified_cgroup_hierarchy=1.*FLOWWORKER_CLUSTER=local"):
        kind.up(Wishes())
    assert not kind.state.exists()
