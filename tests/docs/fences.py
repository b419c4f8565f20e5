"""Finds the code blocks of a Markdown page and what their first line asks for."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^ *```[ \t]*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """One code block."""

    language: str
    words: frozenset[str]
    """What stands after the language without a value, as in ```` ```bash background ````."""
    values: Mapping[str, str]
    """What stands after it with one, as in ```` ```python title="flows.py" ````."""
    text: str
    line: int
    """Of the block's first line in its page."""


def fences(page: str) -> Sequence[Fence]:
    """All code blocks of a page, in order; those of a list's items are indented."""
    return [_fence(found, page) for found in _FENCE.finditer(page)]


def _fence(found: re.Match[str], page: str) -> Fence:
    language, *rest = shlex.split(found["info"]) or [""]
    return Fence(
        language=language,
        words=frozenset(word for word in rest if "=" not in word),
        values=dict(word.split("=", 1) for word in rest if "=" in word),
        text=re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
        line=page.count("\n", 0, found.start()) + 2,
    )
