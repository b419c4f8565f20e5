"""A stand-in for a program: it writes down how it was called and answers as the test wants."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = """#!{python}
import json, os, sys
place = {place!r}
with open(place + "/calls.jsonl", "a") as calls:
    name = os.path.basename(sys.argv[0])
    print(json.dumps([name, *sys.argv[1:]]), file=calls)
with open(place + "/answers.json") as file:
    for words, (code, said) in json.load(file).items():
        if words in " ".join(sys.argv[1:]):
            (sys.stderr if code else sys.stdout).write(said)
            sys.exit(code)
"""


@dataclass(slots=True)
class StandIn:
    """Programs of a folder, with a common record of calls."""

    folder: Path
    answers: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])

    def program(self, name: str) -> str:
        """Path of a stand-in with this name."""
        path = self.folder / name
        path.write_text(SCRIPT.format(python=sys.executable, place=str(self.folder)))
        path.chmod(0o755)
        self._write()
        return str(path)

    def answer(self, words: str, said: str = "", code: int = 0) -> None:
        """What to say to a call with these words among its arguments; the first that fits is taken."""
        self.answers = {words: (code, said), **{key: value for key, value in self.answers.items() if key != words}}
        self._write()

    def calls(self) -> list[list[str]]:
        """Name and arguments of every call so far; the record begins anew."""
        record = self.folder / "calls.jsonl"
        lines = record.read_text().splitlines() if record.exists() else []
        record.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def _write(self) -> None:
        (self.folder / "answers.json").write_text(json.dumps(self.answers))
