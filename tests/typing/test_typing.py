"""What a type checker says about uses of the public API."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flowworker

HERE = Path(__file__).parent
MARK = re.compile(r"  # pyright: ignore\[(?P<rules>[\w, ]+)\]")


def marked(source: str) -> set[tuple[int, str]]:
    """Line numbers and rules of all marks."""
    return {
        (number, rule)
        for number, line in enumerate(source.splitlines(), 1)
        for mark in MARK.finditer(line)
        for rule in mark["rules"].split(", ")
    }


def problems(folder: Path) -> dict[str, set[tuple[int, str]]]:
    """What pyright reports in strict mode, by file name."""
    sources = [str(Path(flowworker.__file__).parents[1])]
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": sources})
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", folder],
        capture_output=True,
        check=False,
    )
    found: dict[str, set[tuple[int, str]]] = {}
    for problem in json.loads(ran.stdout)["generalDiagnostics"]:
        place = (problem["range"]["start"]["line"] + 1, problem.get("rule", problem["message"]))
        found.setdefault(Path(problem["file"]).name, set()).add(place)
    return found


@pytest.mark.timeout(300)  # pyright reads all of pydantic first
def test_pyright_refuses_exactly_the_wrong_uses_and_no_right_one(tmp_path: Path) -> None:
    wrong = (HERE / "wrong_uses.py").read_text()
    (tmp_path / "wrong_uses.py").write_text(MARK.sub("", wrong))
    (tmp_path / "right_uses.py").write_text((HERE / "right_uses.py").read_text())

    assert len(marked(wrong)) > 30
    assert problems(tmp_path) == {"wrong_uses.py": marked(wrong)}
