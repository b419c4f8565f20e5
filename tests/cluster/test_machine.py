"""What a local cluster changes on its machine, and how it is found again."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from testkit.cluster import proc
from testkit.cluster.errors import ClusterError
from testkit.cluster.local import launch
from testkit.cluster.local.cgroups import create_groups, existing_groups, remove_groups
from testkit.cluster.local.leftovers import find_leftovers
from testkit.cluster.local.undo import RAISED, Undo
from testkit.cluster.packages import INSTALL, check, install, missing
from tests.cluster.stand_in import StandIn

MODULE = "tests.cluster.nobody"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Stands for /proc/sys."""
    folder = tmp_path / "sys"
    for name in RAISED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("7\n")
    return folder


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs, by its command line, a module of ours for a state folder."""
    code = "import time; print(flush=True); time.sleep(600)"
    command = [sys.executable, "-c", code, "-m", MODULE, str(tmp_path / "state")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # a process that has only just begun its program has no command line yet
    yield process
    process.stdout.close()
    process.kill()
    process.wait()


def test_what_is_changed_is_written_down_and_reverted(settings: Path, tmp_path: Path) -> None:
    new = tmp_path / "a" / "b"
    Undo.plan(settings, [str(new), str(tmp_path)]).write(tmp_path / "undo.json")
    undo = Undo.read(tmp_path / "undo.json")
    assert undo is not None
    undo.change(settings)
    assert new.is_dir()
    assert all(int((settings / name).read_text()) == value for name, value in RAISED.items())
    undo.revert(settings)
    assert not (tmp_path / "a").exists()
    assert all(int((settings / name).read_text()) == 7 for name in RAISED)


def test_settings_that_suffice_are_left_alone(settings: Path, tmp_path: Path) -> None:
    for name in RAISED:
        (settings / name).write_text("99999999\n")
    assert Undo.plan(settings, [str(tmp_path)]) == Undo(settings={}, folders=())


def test_a_folder_that_others_use_by_now_stays(settings: Path, tmp_path: Path) -> None:
    undo = Undo.plan(settings, [str(tmp_path / "a" / "b")])
    undo.change(settings)
    (tmp_path / "a" / "theirs").touch()
    undo.revert(settings)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["theirs"]


def test_an_heir_reverts_to_what_was_before_both(settings: Path, tmp_path: Path) -> None:
    first = Undo.plan(settings, [str(tmp_path / "a")])
    first.change(settings)
    second = Undo.plan(settings, [str(tmp_path / "a"), str(tmp_path / "b")])
    second.change(settings)
    second.inherit(first).revert(settings)
    assert all(int((settings / name).read_text()) == 7 for name in RAISED)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_start_that_changed_nothing_has_nothing_to_revert(tmp_path: Path) -> None:
    assert Undo.read(tmp_path / "undo.json") is None
    (tmp_path / "undo.json").write_text("{")
    assert Undo.read(tmp_path / "undo.json") is None


def test_control_groups_of_version_1_are_made_in_every_hierarchy_ready_for_processes(tmp_path: Path) -> None:
    for name in ("memory", "cpuset", "unified"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0")
    create_groups("ours", tmp_path)
    assert sorted(existing_groups("ours", tmp_path)) == [tmp_path / "cpuset" / "ours", tmp_path / "memory" / "ours"]
    assert (tmp_path / "cpuset" / "ours" / "cpuset.cpus").read_text() == "0-1"


def test_control_groups_of_version_2_pass_their_controllers_on(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids hugetlb")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory")
    create_groups("ours", tmp_path)
    assert existing_groups("ours", tmp_path) == [tmp_path / "ours"]
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+pids"


def test_control_groups_go_with_all_that_was_made_below(tmp_path: Path) -> None:
    (tmp_path / "memory" / "ours" / "pods" / "pod1").mkdir(parents=True)
    (tmp_path / "memory" / "others").mkdir()
    remove_groups("ours", tmp_path)
    assert existing_groups("ours", tmp_path) == []
    assert (tmp_path / "memory" / "others").is_dir()


def test_processes_of_a_cluster_are_found_by_their_command_line(
    stranger: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert proc.find(MODULE, tmp_path / "state") == [stranger.pid]
    assert proc.find(MODULE, tmp_path / "stat") == []
    assert proc.find_states(MODULE) == {tmp_path / "state"}
    assert not proc.is_first(stranger.pid)


def test_a_process_is_waited_for_after_its_signal(stranger: subprocess.Popen[bytes]) -> None:
    proc.end([stranger.pid], signal.SIGTERM, patience=30.0)
    assert stranger.poll() == -signal.SIGTERM
    with proc.held_namespaces(stranger.pid) as namespaces:
        assert namespaces == set()
    assert proc.command_line(stranger.pid) == []
    proc.end([stranger.pid], signal.SIGTERM, patience=30.0)


def test_what_is_left_behind_is_named(stranger: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    undo = Undo(settings={}, folders=(str(tmp_path / "made"),))
    left = find_leftovers(tmp_path / "made", set(), undo)
    assert left == [f"folder {tmp_path / 'made'}", f"folder {tmp_path / 'made'}"]
    with proc.held_namespaces(stranger.pid) as namespaces:
        assert any(f"process {stranger.pid}:" in line for line in find_leftovers(tmp_path / "none", namespaces, None))


def test_a_folder_that_is_not_a_clusters_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ClusterError, match="nothing was removed"):
        launch.remove(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_one_process_at_a_time_changes_a_cluster(tmp_path: Path) -> None:
    with (
        launch.only_one(tmp_path, patience=0.0),
        pytest.raises(ClusterError, match="another process"),
        launch.only_one(tmp_path, patience=0.1),
    ):
        pass
    with launch.only_one(tmp_path, patience=0.0):
        pass


def test_missing_packages_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = {str(tmp_path / "runc"): "runc"}
    assert missing({**nowhere, sys.executable: "python3"}) == ["runc"]
    command = " ".join([*INSTALL, "runc"])
    with pytest.raises(ClusterError, match=command):
        check(nowhere)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match=f"run as root.*{command}"):
        install(nowhere)


def test_packages_are_installed_by_root_and_only_where_they_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = StandIn(tmp_path)
    programs.program("apt-get")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    install({str(tmp_path / "runc"): "runc", sys.executable: "python3"})
    assert programs.calls() == [["apt-get", "update", "--quiet"], [*INSTALL, "runc"]]
    install({sys.executable: "python3"})
    assert programs.calls() == []
    programs.answer("update", "no network", code=1)
    with pytest.raises(ClusterError, match="apt-get update --quiet failed"):
        install({str(tmp_path / "runc"): "runc"})


def test_pid_1_collects_its_children_and_all_orphans() -> None:
    """In a process of its own: what reaps everything takes the children of all others as well."""
    script = """
        import asyncio, signal, tempfile
        from pathlib import Path
        from testkit.cluster.local.processes import Processes

        async def main():
            log = Path(tempfile.mkstemp()[1])
            processes = Processes()
            said = processes.spawn(["sh", "-c", "echo said; exit 3"], log)
            assert await said.ended == 3
            assert log.read_text() == "said\\n"
            long = processes.spawn(["sleep", "600"], log)
            assert long.is_running
            long.send(signal.SIGTERM)
            assert await long.ended == -signal.SIGTERM
            long.send(signal.SIGTERM)
            many = [processes.spawn(["true"], log) for _ in range(50)]
            assert await asyncio.gather(*(each.ended for each in many)) == [0] * 50
            log.unlink()

        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=50)
