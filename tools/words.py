"""Counts words that have a better one in all Python code; fails above the bounds.

Counted is per 10,000 words of prose: docstrings, strings below an attribute, and comments. Names of code do not count
in prose: those between backticks, and those of the parameters that a docstring lists. The names that the code gives
count as well, and so do the messages of what people run: strings of more than one word.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

GROUPS: Mapping[str, re.Pattern[str]] = {
    group: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for group, words in {
        "tell": "tells?|told|telling",
        "somebody": "(?:some|no|every|any)body|who(?:m)?ever",
        "dialect": "deeds?|bur(?:y|ies|ied|ying|ials?)|farewells?|mouths?|kin|graves?|purses?|shel(?:f|ves)|news",
    }.items()
}
"""Words by group: "reports", "is called with", "no worker", "another manager", "the caller" are the better ones."""

BOUNDS: Mapping[str, Mapping[str, float]] = {
    "worker": {"tell": 0.0, "somebody": 0.0, "dialect": 0.0},
    "operator": {"tell": 0.0, "somebody": 0.0, "dialect": 0.0},
    "tests": {"tell": 0.0, "somebody": 0.0, "dialect": 0.0},
    "testkit": {"tell": 0.0, "somebody": 0.0, "dialect": 0.0},
    "e2e": {"tell": 0.0, "somebody": 0.0, "dialect": 0.0},
    "tools": {"tell": 0.0, "somebody": 0.0, "dialect": 0.0},
    "examples": {"tell": 0.0, "somebody": 0.0, "dialect": 0.0},
}
"""By folder: how many there may be of a group per 10,000 words. They only ever go down."""

SPOKEN = frozenset({"worker", "operator", "testkit", "tools", "examples"})
"""Folders whose messages count: what tests write may be anything, such as the name of an account."""

_CODE = re.compile(r"``?[^`]+``?")
_PARAMETER = re.compile(r"^\s+\w+:(?= )", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Prose:
    """One docstring or comment."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Find:
    """A word that has a better one."""

    path: Path
    line: int
    group: str
    word: str


@dataclass(frozen=True, slots=True)
class Count:
    """What was found in one folder."""

    words: int
    finds: Sequence[Find]

    def rate(self, group: str) -> float:
        """Words of this group per 10,000."""
        found = sum(find.group == group for find in self.finds)
        return 10_000 * found / self.words if self.words else 0.0


def prose(source: str) -> Iterator[Prose]:
    """Docstrings, strings that stand alone below an attribute, and comments, without the names of code."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text), lineno=line)):
                yield Prose(line, _CODE.sub(_blank, _PARAMETER.sub(_blank, text)))
            case _:
                pass
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Prose(token.start[0], _CODE.sub(_blank, token.string))


def names(source: str) -> Iterator[Prose]:
    """Names of variables, parameters, functions and classes that the code gives, as words."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                pass
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                pass
            case _:
                continue
        yield Prose(node.lineno, _HUMP.sub(" ", name).replace("_", " "))


def messages(source: str) -> Iterator[Prose]:
    """Strings of more than one word that are no docstrings, and such parts of them that stand between fields."""
    tree = ast.parse(source)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text), lineno=line) if id(node) not in alone and " " in text:
                yield Prose(line, _CODE.sub(_blank, text))
            case _:
                pass


def count(folder: Path, *, spoken: bool = False) -> Count:
    """Count in all Python files below a folder; `spoken` adds what is found in messages."""
    words, finds = 0, list[Find]()
    for path in sorted(folder.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for piece in prose(source):
            words += len(_WORD.findall(piece.text))
            finds += _finds(path, piece)
        for piece in (*names(source), *(messages(source) if spoken else ())):
            finds += _finds(path, piece)
    return Count(words, finds)


def excess(found: Count, bounds: Mapping[str, float]) -> Mapping[str, float]:
    """The groups above their bound, and their rate."""
    return {group: rate for group, bound in bounds.items() if (rate := found.rate(group)) > bound}


def table(counts: Mapping[str, Count], bounds: Mapping[str, Mapping[str, float]]) -> str:
    """Rates and bounds, a folder a row."""
    head = f"{'per 10,000 words':<18}{'words':>8}" + "".join(f"{group:>22}" for group in GROUPS)
    rows = (
        f"{folder:<18}{found.words:>8}"
        + "".join(f"{found.rate(group):>10.2f} (at most {bounds[folder][group]:g})".rjust(22) for group in GROUPS)
        for folder, found in counts.items()
    )
    return "\n".join([head, *rows])


def main(root: Path = ROOT, bounds: Mapping[str, Mapping[str, float]] = BOUNDS) -> int:
    """Print the table, and where the words of a group stand that is above its bound.

    Returns:
        0 if every folder has prose and is within its bounds, else 1.
    """
    counts = {folder: count(root / folder, spoken=folder in SPOKEN) for folder in bounds}
    print(table(counts, bounds))
    failed = False
    for folder, found in counts.items():
        if not found.words:
            print(f"{folder}: no prose in Python files", file=sys.stderr)
        above = excess(found, bounds[folder])
        failed = failed or bool(above) or not found.words
        for find in found.finds:
            if find.group in above:
                print(f"{find.path.relative_to(root)}:{find.line}: {find.word}", file=sys.stderr)
    return int(failed)


def _finds(path: Path, piece: Prose) -> Iterator[Find]:
    for group, pattern in GROUPS.items():
        for found in pattern.finditer(piece.text):
            line = piece.line + piece.text.count("\n", 0, found.start())
            yield Find(path, line, group, found.group())


def _blank(found: re.Match[str]) -> str:
    """Nothing, on as many lines."""
    return "\n" * found.group().count("\n")


if __name__ == "__main__":
    sys.exit(main())
