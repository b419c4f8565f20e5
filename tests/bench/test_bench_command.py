"""`flowworker bench` from the command line to its files."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

pytestmark = [pytest.mark.bench, pytest.mark.xdist_group("bench"), pytest.mark.timeout(400)]


def test_a_quick_bench_writes_everything_it_measured_and_a_picture(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flowworker.cli", "bench", "--quick", "--output-directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=380)
    assert done.returncode == 0, done.stderr
    report = orjson.loads((tmp_path / "bench.json").read_bytes())
    assert {figure["verdict"] for figure in report["figures"]} <= {"aim", "must", "missed"}
    assert {row["side"] for row in report["throughput"]} == {"floor", "worker"}
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert all(figure["what"] in done.stdout for figure in report["figures"])
    assert all(percentile in done.stdout for percentile in ("P50", "P95", "P99"))
