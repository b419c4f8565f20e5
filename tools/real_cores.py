"""Run the tests of flows on real pgflow cores, and note in docs/compatibility.md which were run and when.

Outside CI: it needs a clone of pgflow's repository with its tags (`git clone https://github.com/pgflow-dev/pgflow`).
The migrations of each tag are taken into a temporary folder, installed into the embedded PostgreSQL of the tests by
`tests/conftest.py`, and never kept. Usage: `.venv/bin/python tools/real_cores.py CLONE [VERSION ...]`.
"""

import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "compatibility.md"
MIGRATIONS = "pkgs/core/supabase/migrations"
OLDEST = (0, 9)
"""0.8.1 is what every test runs on."""

TESTS = (
    "tests/contract/test_flow_contract.py",
    "tests/contract/test_compilation_contract.py",
    "tests/contract/test_registration_contract.py",
    "tests/integration/sources/test_migrations.py",
    "tests/integration/sources/test_flow_claim.py",
    "tests/integration/sources/test_flow_finish.py",
    "tests/integration/sources/test_flow_recovery.py",
    "tests/integration/sources/test_map_tasks.py",
    "tests/integration/runtime/test_drains_and_death.py",
    "tests/integration/runtime/test_conditions.py",
    "tests/integration/client",
)

BEGIN, END = "<!-- real cores: begin -->", "<!-- real cores: end -->"
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([\d-]+) \| (\d+) \| (\d+) \|$", re.MULTILINE)
COUNTS = re.compile(r"(\d+) (passed|failed|error)")


def versions(clone: Path) -> list[str]:
    """Released cores that are tagged, oldest first."""
    tags = _git(clone, "tag", "--list", "@pgflow/core@*").decode().split()
    found = [tag.rpartition("@")[2] for tag in tags]
    return sorted((one for one in found if _key(one) >= OLDEST), key=_key)


def unpack(clone: Path, version: str, folder: Path) -> None:
    """Take the migrations of one release out of the clone."""
    folder.mkdir(parents=True)
    packed = _git(clone, "archive", "--format=tar", f"@pgflow/core@{version}:{MIGRATIONS}")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            if content is not None and member.name.endswith(".sql"):
                (folder / Path(member.name).name).write_bytes(content.read())


def run(folder: Path) -> tuple[int, int]:
    """Run the tests on one core; how many passed and how many did not."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *TESTS]
    environment = {**os.environ, "FLOWWORKER_TEST_CORE": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    counts = {word: int(number) for number, word in COUNTS.findall(done.stdout)}
    if "passed" not in counts:
        raise SystemExit(f"no test ran on core {folder.name}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    failures = counts.get("failed", 0) + counts.get("error", 0)
    if failures:
        print(done.stdout[-6000:])
    return counts["passed"], failures


def table(page: str, results: Mapping[str, Sequence[str]]) -> str:
    """The page with the rows of these cores renewed, and those of others as they were."""
    before, _, rest = page.partition(BEGIN)
    old, _, after = rest.partition(END)
    rows: dict[str, Sequence[str]] = {match[1]: match.groups()[1:] for match in ROW.finditer(old)} | dict(results)
    lines = [f"| {core} | {' | '.join(rows[core])} |" for core in sorted(rows, key=_key)]
    head = ["| core | run on | tests passed | failed |", "|---|---|---|---|"]
    return "\n".join([f"{before}{BEGIN}", "", *head, *lines, "", f"{END}{after}"])


def main(clone: Path, chosen: Sequence[str]) -> int:
    """Run the cores named, or all that are tagged; 1 if a test failed."""
    results: dict[str, Sequence[str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        for version in chosen or versions(clone):
            folder = Path(temporary) / version
            unpack(clone, version, folder)
            passed, failed = run(folder)
            results[version] = (f"{datetime.now(UTC):%Y-%m-%d}", str(passed), str(failed))
            print(f"core {version}: {passed} passed, {failed} failed", flush=True)
            PAGE.write_text(table(PAGE.read_text(), results))
    return int(any(result[2] != "0" for result in results.values()))


def _git(clone: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(clone), *arguments], check=True, capture_output=True).stdout


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
