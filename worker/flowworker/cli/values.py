"""JSON values on the command line: given in place, read from a file, or from standard input."""

import json
import sys
from pathlib import Path

from flowworker.definition.json_text import JsonText
from flowworker.errors import UsageError


def json_text(text: str | None, option: str) -> JsonText | None:
    """An option as it is written: JSON, `@FILE`, or `-` for standard input; None, which is null, when not given.

    Raises:
        UsageError: the file cannot be read, it is no JSON, or the database would not keep all of it.
    """
    if text is None:
        return None
    try:
        return JsonText.parse(_content(text, option))
    except json.JSONDecodeError as error:
        raise UsageError(f"{option} is no JSON: {error}; text needs its own quotes, as in '\"text\"'") from None
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def headers(pairs: list[str]) -> dict[str, str] | None:
    """Headers given as NAME=VALUE.

    Raises:
        UsageError: one has no `=`.
    """
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"--header takes NAME=VALUE, got {pair!r}")
    return dict(pair.split("=", 1) for pair in pairs) or None


def _content(text: str, option: str) -> str:
    if text == "-":
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option}: cannot read {text[1:]}: {error}") from error
