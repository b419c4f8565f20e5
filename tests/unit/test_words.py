"""The count of words that have a better one in docstrings, comments and names."""

from pathlib import Path

import pytest
from tools.words import BOUNDS, GROUPS, ROOT, count, main

NONE = dict.fromkeys(GROUPS, 0.0)

PROSE = '''"""Runs until it is told to stop.

Nobody waits for it.
"""

LIMIT = 1
"""Seconds, whoever asks."""


def run(told):  # deed
    """Begin."""
    # As anybody can tell.
'''

CODE = '''"""Marks workers lost.

Calls `Probes.bury` and ``tell`` with storytelling, kinds of skin and graveyards.

Args:
    told: called with the outcome.
"""

nobody = tell("somebody told whoever it was")
'''

NAMES = """def until_told(whoever):
    nobody, self.seen = whoever.told, 1
async def test_nobody_is_told(): ...
"""


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


def test_names_of_code_strings_and_parts_of_words_do_not_count(folder: Path) -> None:
    (folder / "module.py").write_text(CODE)
    assert not count(folder.parent).finds


def test_names_that_the_code_gives_count_where_asked_for_but_those_of_tests_do_not(folder: Path) -> None:
    (folder / "module.py").write_text(NAMES)
    found = count(folder.parent, named=True)
    assert sorted((find.line, find.word) for find in found.finds) == [(1, "told"), (1, "whoever"), (2, "nobody")]
    assert found.words == 0


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
