"""What continuous integration does when something fails: the script itself, with commands that only note their call."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

COMMAND = """#!/bin/sh
[ "$1" = -u ] && exec echo 0
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in $FAILS) exit 2 ;; esac
"""
"""Notes its call and fails for some; `id -u` says root."""

EVERYTHING = [
    "make setup-services setup-image setup-cluster", "make lint types verify", "make docs", "make test",
    "make test-postgresql", "make test-image",
    "python -m testkit.cluster.binaries node", "make e2e",
]  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone in which every command is a stand-in."""
    for place in ("bin/make", "bin/id", "bin/apt-get", ".venv/bin/python", ".venv/bin/pytest"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(COMMAND)
        path.chmod(0o755)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    return tmp_path


def run(clone: Path, fails: str) -> tuple[int, list[str], list[str]]:
    """The exit code, what was called, and the lines of the output."""
    environment = {
        **os.environ, "PATH": f"{clone / 'bin'}:{os.environ['PATH']}", "CALLS": str(clone / "calls"), "FAILS": fails,
    }  # fmt: skip
    done = subprocess.run(["bash", ".ci/run"], cwd=clone, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, (clone / "calls").read_text().splitlines(), done.stdout.splitlines()


def test_a_clean_run_calls_every_stage_once_and_ends_well(clone: Path) -> None:
    code, calls, lines = run(clone, fails="none")
    assert (code, calls) == (0, EVERYTHING)
    assert not any("failed" in line for line in lines)


@pytest.mark.parametrize("fails", ["setup-services*", "lint*", "-m*"])
def test_a_stage_that_fails_stops_no_other_and_fails_the_run(clone: Path, fails: str) -> None:
    code, calls, lines = run(clone, fails)
    (failed,) = [line for line in lines if "failed" in line]
    assert failed.startswith("=== failed: ")
    assert (code, calls, lines[-1]) == (1, EVERYTHING, failed)


@pytest.mark.parametrize(("stage", "folder"), [("test", "tests"), ("test-image", "tests"), ("e2e", "e2e")])
def test_tests_that_pass_when_they_are_run_alone_are_named_as_flaky(clone: Path, stage: str, folder: str) -> None:
    again = f"pytest --last-failed --last-failed-no-failures none {folder}"
    code, calls, lines = run(clone, stage)
    assert (code, lines[-1]) == (0, f"=== flaky, mend it: make {stage}")
    assert calls == [one for call in EVERYTHING for one in (call, *[again] * (call == f"make {stage}"))]


def test_what_fails_again_fails_the_run_and_is_named_last(clone: Path) -> None:
    code, calls, lines = run(clone, fails="*")
    assert code == 1
    assert [call for call in calls if not call.startswith("pytest")] == EVERYTHING
    named = [f"=== failed: {call.replace('python', '.venv/bin/python')}" for call in EVERYTHING]
    assert lines[-len(EVERYTHING) :] == named


SET_UP = (
    "requirements/uv.txt", "requirements/dev.txt", "requirements/pgmq.txt", "pyproject.toml", "tools/fetch_upstream.py",
    ".venv/.ready", "worker/flowworker/database/upstream/manifest.json",
)  # fmt: skip
"""What shows make that nothing is to be set up, the youngest last."""


def test_make_test_goes_on_after_a_check_that_failed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for age, place in enumerate(SET_UP):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (age, age))
    # Not the flags of a make that runs this test.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "test"], cwd=tmp_path, env={**environment, "LC_ALL": "C"}, capture_output=True, text=True, check=False
    )
    failed = set(re.findall(r"Makefile:\d+: ([a-z-]+)\] Error 127", done.stderr))
    assert failed == {"lint", "types", "verify", "test-unit", "test-chaos", "test-control-plane"}
    assert done.returncode != 0
