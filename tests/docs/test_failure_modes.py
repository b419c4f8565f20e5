"""The page about failures names tests that exist."""

import re

from tests.docs.page_runner import REPOSITORY


def test_every_test_named_on_the_page_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "docs" / "failure-modes.md").read_text()))
    folders = (REPOSITORY / "tests", REPOSITORY / "e2e")
    files = (path.read_text() for folder in folders for path in folder.rglob("test_*.py"))
    existing = {name for text in files for name in re.findall(r"def (test_\w+)\(", text)}
    assert len(named) > 20
    assert named - existing == set()
