"""Values on the command line: JSON, given in place, from a file or from standard input; times; parts of inputs."""

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flowworker.definition.json_text import JsonText
from flowworker.errors import UsageError

AGO = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[smhd])", re.ASCII)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


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


def moment(text: str | None, option: str) -> datetime | timedelta | None:
    """A moment by ISO 8601, in UTC unless it says otherwise, or so long ago: `90s`, `30m`, `24h`, `7d`.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    try:
        if ago := AGO.fullmatch(text):
            return timedelta(**{UNITS[ago["unit"]]: float(ago["number"])})
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} takes a time ago, such as 90s, 30m, 24h or 7d, or a moment such as 2026-01-31 or "
            f"2026-01-31T08:30+01:00, got {text!r}"
        ) from None


def parts_of_input(pairs: Sequence[str]) -> dict[str, str]:
    """Values by path, given as PATH=VALUE.

    Raises:
        UsageError: one has no path or no `=`, or two values are for one path.
    """
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise UsageError(f"--input takes PATH=VALUE, such as customer.id=7, got {pair!r}")
    found: dict[str, str] = {}
    for path, value in (pair.split("=", 1) for pair in pairs):
        if found.setdefault(path, value) != value:
            raise UsageError(f"--input asks for two values of {path}, {found[path]!r} and {value!r}: give one")
    return found


def _content(text: str, option: str) -> str:
    if text == "-":
        return sys.stdin.read()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option}: cannot read {text[1:]}: {error}") from error
