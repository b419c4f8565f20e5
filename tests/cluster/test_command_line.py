"""`python -m testkit.cluster` without a cluster: clear words and exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(state: Path, *arguments: str, choice: str = "local") -> subprocess.CompletedProcess[str]:
    """Run it with a state folder of the test."""
    environment = {**os.environ, "FLOWWORKER_CLUSTER": choice, "FLOWWORKER_CLUSTER_STATE": str(state)}
    command = [sys.executable, "-m", "testkit.cluster", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=50, check=False)


def test_status_says_that_no_cluster_is_up(tmp_path: Path) -> None:
    done = run(tmp_path / "state", "status")
    assert (done.returncode, done.stdout) == (1, "No cluster is up (local).\n")


def test_the_kubeconfig_is_known_before_the_cluster(tmp_path: Path) -> None:
    assert run(tmp_path, "kubeconfig").stdout == f"{tmp_path}/kubeconfig\n"


@pytest.mark.parametrize(
    "arguments",
    [["exec", "true"], ["load", __file__], ["component", "kill", "etcd"], ["logs", "kubelet"]],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_a_cluster_says_how_to_have_one(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path / "state", *arguments)
    assert done.returncode == 1
    assert done.stderr == "error: no cluster is up: `python -m testkit.cluster up`\n"


def test_exec_wants_a_command(tmp_path: Path) -> None:
    assert "exec needs a command" in run(tmp_path / "state", "exec").stderr


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path / "state", "status", choice="minikube")
    assert done.returncode == 1
    assert "it can be kind or local" in done.stderr


def test_an_unknown_component_is_a_usage_error(tmp_path: Path) -> None:
    assert run(tmp_path / "state", "component", "kill", "tiller").returncode == 2


def test_an_archive_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    done = run(tmp_path / "state", "up", "--image", str(tmp_path / "nothing.tar"))
    assert (done.returncode, "nothing.tar is no file" in done.stderr) == (2, True)
    assert not (tmp_path / "state").exists()
