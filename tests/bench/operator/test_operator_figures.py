"""`python -m tests.bench.operator` from the command line to its file."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from tests.bench.operator.promises import PROMISES

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.bench, pytest.mark.xdist_group("bench"), pytest.mark.timeout(900)]


def test_a_quick_bench_measures_every_promise_and_keeps_those_that_hardly_depend_on_the_machine(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.bench.operator", "--quick", "--output-directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=880, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    report = orjson.loads((tmp_path / "operator.json").read_bytes())
    verdicts = {figure["what"]: figure["verdict"] for figure in report["figures"]}
    assert set(verdicts) == {promise.what for promise in PROMISES}
    assert "unknown" not in verdicts.values()
    counted = ("memory", "connections", "API writes")
    assert not [what for what, verdict in verdicts.items() if what.startswith(counted) and verdict == "missed"]
