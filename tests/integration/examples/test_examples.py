"""Every example does what its first lines say, against real PostgreSQL."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.conftest import Database

REPOSITORY = Path(__file__).parents[3]


def run_module(module: str, *arguments: str, dsn: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWWORKER_")}
    if dsn is not None:
        environment["FLOWWORKER_DATABASE_URL"] = dsn
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *arguments], cwd=REPOSITORY, env=environment,
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "printed"),
    [
        ("chain", r"flow order is completed: \{'invoice': \{'total': 1487, 'number': 'A17-1'\}\}"),
        ("fan_out", r"flow word_count is completed: \{'total': 10\}"),
        (
            "retries",
            r"flow payment is completed: \{'receipt': 'ACC-1: 1999 charged, once, under key [\w-]+:charge:0'\}",
        ),
        ("long_task", r"flow film is completed: \{'publish': 'film of 50 frames'\}"),
        ("cpu_bound", r"flow primes is completed: \{'count': 3245\}"),
        ("job_queue", r"-> Welcome, ada@example\.org\njob 2 .* -> bob@example\.org, please pay 12\.50"),
    ],
)
def test_the_example_runs_on_its_own(module: str, printed: str, database: Database) -> None:
    done = run_module(f"examples.{module}", dsn=database.dsn)
    assert done.returncode == 0, done.stderr
    assert re.search(printed, done.stdout), done.stdout
    assert done.stderr == ""


def test_an_example_brings_its_own_database_and_leaves_nothing() -> None:
    temporary = Path(tempfile.gettempdir())
    folders = set(temporary.glob("flowworker-example-*"))
    done = run_module("examples.chain", dsn=None)
    assert done.returncode == 0, done.stderr
    assert set(temporary.glob("flowworker-example-*")) <= folders


def test_the_demo_shows_progress_and_a_table_of_what_completed(database: Database) -> None:
    done = run_module("examples.demo", "--runs", "20", "--jobs", "21", dsn=database.dsn)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +[\d.]+ s  runs \d+/20  tasks \d+/140  jobs \d+/21  retries \d+$", done.stdout, re.MULTILINE)
    assert re.search(r"^runs  +20 +0 ", done.stdout, re.MULTILINE)
    assert re.search(r"^tasks  +140 +0 +10 ", done.stdout, re.MULTILINE)
    assert re.search(r"^jobs  +21 +0 +2 ", done.stdout, re.MULTILINE)


def test_the_demo_fails_when_not_everything_completed(database: Database) -> None:
    done = run_module("examples.demo", "--runs", "5", "--jobs", "5", "--deadline", "0", dsn=database.dsn)
    assert done.returncode == 1, done.stdout
