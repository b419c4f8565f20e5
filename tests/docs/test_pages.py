"""Every page of the documentation does what it says."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Database
from tests.docs.fences import fences
from tests.docs.page_runner import REPOSITORY, PageRunner

from flowworker.database.local_server import free_port

GENERATED = REPOSITORY / "docs" / "reference"
PAGES = [
    *(
        REPOSITORY / name
        for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "testkit/cluster/modules/README.md")
    ),
    *(page for page in sorted((REPOSITORY / "docs").rglob("*.md")) if GENERATED not in page.parents),
]
PORT = "54329"
"""What the pages call the port of `flowworker dev`; a reader may be following a page on this machine meanwhile."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that PostgreSQL's own user may enter, as pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="flowworker-page-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_block_of_the_page_works(page: Path, database: Database, folder: Path) -> None:
    runner = PageRunner(name=str(page.relative_to(REPOSITORY)), folder=folder, dsn=database.dsn)
    try:
        for fence in fences(page.read_text().replace(PORT, str(free_port()))):
            runner.run(fence)
    finally:
        runner.close()


def test_no_page_has_code_that_no_test_reads() -> None:
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    written = {page for name in tracked.stdout.splitlines() if GENERATED not in (page := REPOSITORY / name).parents}
    unread = [page for page in written - set(PAGES) if fences(page.read_text())]
    indented = [page for page in written if re.search(r"\n\n {4,}[^ *\d-]", _prose(page))]
    assert (unread, indented) == ([], [])


def _prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
