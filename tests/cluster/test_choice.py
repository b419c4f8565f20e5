"""Which backend is used."""

import os
from pathlib import Path

import pytest
from testkit.cluster.backend import CHOICE_VARIABLE, STATE_VARIABLE, BackendName
from testkit.cluster.choice import VERSION_VARIABLE, choose, create_backend, needed, state_folder
from testkit.cluster.engine.client import first_answering
from testkit.cluster.errors import ClusterError
from testkit.cluster.packages import ENGINE, NODE, TOOLS
from tests.cluster.stand_in import StandIn


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The only programs on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return StandIn(folder)


def test_kind_is_used_where_a_container_engine_answers(programs: StandIn, tmp_path: Path) -> None:
    programs.program("podman")
    assert choose({}, tmp_path) is BackendName.KIND
    assert first_answering() == "podman"


def test_a_client_without_its_daemon_is_no_container_engine(programs: StandIn, tmp_path: Path) -> None:
    programs.program("docker")
    programs.answer("info", "cannot connect", code=1)
    assert choose({}, tmp_path) is BackendName.LOCAL


def test_a_machine_without_a_container_engine_runs_the_node_itself(programs: StandIn, tmp_path: Path) -> None:
    assert programs.calls() == []
    assert choose({}, tmp_path) is BackendName.LOCAL


def test_the_choice_can_be_made_by_hand(programs: StandIn, tmp_path: Path) -> None:
    programs.program("docker")
    assert choose({CHOICE_VARIABLE: "local"}, tmp_path) is BackendName.LOCAL
    with pytest.raises(ClusterError, match="'minikube'; it can be kind or local"):
        choose({CHOICE_VARIABLE: "minikube"}, tmp_path)


@pytest.mark.parametrize(("mark", "name"), [("undo.json", BackendName.LOCAL), ("record.json", BackendName.KIND)])
def test_a_cluster_that_is_there_is_taken_for_what_it_is(
    programs: StandIn, tmp_path: Path, mark: str, name: BackendName
) -> None:
    programs.program("docker")
    (tmp_path / mark).touch()
    assert choose({}, tmp_path) is name


def test_a_container_engine_needs_nothing_of_the_distribution(programs: StandIn, tmp_path: Path) -> None:
    environment = {STATE_VARIABLE: str(tmp_path)}
    assert needed(environment, tests=False) == {**TOOLS, **NODE}
    assert needed({**environment, CHOICE_VARIABLE: "kind"}, tests=False) == {**TOOLS, **ENGINE}
    programs.program("docker")
    assert needed(environment, tests=False) == {}
    assert needed(environment, tests=True) == TOOLS


def test_kind_without_an_engine_says_what_is_missing(programs: StandIn, tmp_path: Path) -> None:
    assert programs.calls() == []
    with pytest.raises(ClusterError, match="docker or podman, and neither answers"):
        create_backend({CHOICE_VARIABLE: "kind", STATE_VARIABLE: str(tmp_path)})


def test_kind_has_no_other_versions_than_those_it_was_built_for(programs: StandIn, tmp_path: Path) -> None:
    programs.program("docker")
    with pytest.raises(ClusterError, match=r"1\.20.*it can be 1\.36, 1\.35, 1\.34"):
        create_backend({VERSION_VARIABLE: "1.20", STATE_VARIABLE: str(tmp_path)})


def test_the_state_lies_outside_the_tree(tmp_path: Path) -> None:
    assert state_folder({STATE_VARIABLE: str(tmp_path / "a")}) == tmp_path / "a"
    assert state_folder({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "flowworker" / "cluster"
    assert not state_folder({}).is_relative_to(os.getcwd())
