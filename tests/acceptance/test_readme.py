"""The page of this folder names every row with its test, and every test is there."""

import ast
import re
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).parent
ROW = re.compile(r"^\| .+ \| `(test_\w+)` \|$", re.MULTILINE)


def functions_in(path: Path) -> list[str]:
    """Names of the test functions of a module."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = (node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions))
    return [name for name in names if name.startswith("test_")]


def test_every_row_has_exactly_one_test_and_every_test_one_row() -> None:
    rows = Counter(ROW.findall((FOLDER / "README.md").read_text()))
    tests = Counter(name for path in FOLDER.glob("test_*.py") if path != Path(__file__) for name in functions_in(path))
    assert len(rows) > 40
    assert rows == tests
    assert set(rows.values()) == {1}
