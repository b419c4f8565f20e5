"""Statements are files: one each, read once, with identifiers and fragments filled in.

A placeholder is `{name}`. What replaces it is either a quoted identifier (`flowworker.database.identifiers`) or another
file of this package or nothing, never a value: values are bound.
"""

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("sql")

PLACEHOLDER = re.compile(r"\{(\w+)\}")


@cache
def load(name: str) -> str:
    """The text of `sql/<name>.sql` without its comment lines."""
    text = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()


@cache
def fill(name: str, /, **parts: str) -> str:
    """The text of `sql/<name>.sql` with its placeholders replaced.

    Raises:
        KeyError: a placeholder of the file has no part.
    """
    return PLACEHOLDER.sub(lambda match: parts[match[1]], load(name))
