"""The count of words that have a better one in docstrings, comments, names and messages."""

from pathlib import Path

import pytest
from tools.words import BOUNDS, GROUPS, ROOT, count, main

NONE = dict.fromkeys(GROUPS, 0.0)

PROSE = '''"""Runs until it is told to stop.

Nobody waits for it.
"""

LIMIT = 1
"""Seconds, whoever asks."""


def run(until):  # deed
    """Begin."""
    # As anybody can tell.
'''

CODE = '''"""Marks workers lost.

Calls `Probes.bury` and ``tell`` with storytelling, kinds of skin and graveyards.

Args:
    told: called with the outcome.
"""

who = tell("nobody")
'''

NAMES = """def until_told(whoever):
    nobody, self.seen = whoever.told, 1
async def test_nobody_waits(): ...
class LateNews: ...
"""

MESSAGES = '''"""Says what it is."""
text = f"is held by {name}, told by somebody" + "nobody"
lines = """one
`nobody` buries it
"""
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "package" / "inner"
    made.mkdir(parents=True)
    return made


def test_docstrings_strings_below_attributes_and_comments_count_with_their_lines(folder: Path) -> None:
    (folder / "module.py").write_text(PROSE)
    found = count(folder.parent)
    assert sorted((find.line, find.word, find.group) for find in found.finds) == [
        (1, "told", "tell"),
        (3, "Nobody", "somebody"),
        (7, "whoever", "somebody"),
        (10, "deed", "dialect"),
        (12, "anybody", "somebody"),
        (12, "tell", "tell"),
    ]
    assert found.words == 20
    assert found.rate("somebody") == 1500


def test_names_of_code_single_words_and_parts_of_words_do_not_count(folder: Path) -> None:
    (folder / "module.py").write_text(CODE)
    assert not count(folder.parent, spoken=True).finds


def test_names_that_the_code_gives_count_those_of_tests_and_classes_included(folder: Path) -> None:
    (folder / "module.py").write_text(NAMES)
    found = count(folder.parent)
    assert sorted((find.line, find.word) for find in found.finds) == [
        (1, "told"),
        (1, "whoever"),
        (2, "nobody"),
        (3, "nobody"),
        (4, "News"),
    ]
    assert found.words == 0


def test_messages_count_where_asked_for(folder: Path) -> None:
    (folder / "module.py").write_text(MESSAGES)
    assert not count(folder.parent).finds
    found = count(folder.parent, spoken=True)
    assert sorted((find.line, find.word) for find in found.finds) == [(2, "somebody"), (2, "told"), (4, "buries")]


def test_a_folder_above_its_bound_fails_with_the_places_of_that_group(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "module.py").write_text(PROSE)
    root = folder.parent.parent
    assert main(root, {"package": {"tell": 1000.0, "somebody": 1499.0, "dialect": 500.0}}) == 1
    printed = capsys.readouterr()
    assert "1500.00 (at most 1499)" in printed.out
    assert printed.err.splitlines() == [
        "package/inner/module.py:3: Nobody",
        "package/inner/module.py:7: whoever",
        "package/inner/module.py:12: anybody",
    ]


def test_a_folder_at_its_bound_passes(folder: Path) -> None:
    (folder / "module.py").write_text(PROSE)
    assert main(folder.parent.parent, {"package": {"tell": 1000.0, "somebody": 1500.0, "dialect": 500.0}}) == 0


def test_a_folder_without_prose_fails_since_nothing_was_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(folder.parent.parent, {"package": NONE, "gone": NONE}) == 1
    assert "gone: no prose" in capsys.readouterr().err


def test_all_python_code_has_a_bound_for_every_group() -> None:
    assert set(BOUNDS) == {"worker", "operator", "tests", "testkit", "e2e", "tools", "examples"}
    for folder, bounds in BOUNDS.items():
        assert bounds.keys() == GROUPS.keys()
        assert count(ROOT / folder).words > 1000
