"""Any object as plain values that are safe to write: no secret, nothing that JSON cannot carry, no surprise.

What a log line or `/state` carries is anything: objects whose `__str__` raises, dicts that lie about their items,
values that hold themselves. Each is looked at on its own, so that one costs neither its neighbours nor the line.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from enum import Enum
from itertools import islice
from typing import Any, TypeAlias, cast
from uuid import UUID

from flowworker.redaction import HIDDEN, names_a_secret, redact

DEPTH = 8
"""Levels of a nested value that are shown."""

MOST_ITEMS = 1000
"""Items of one collection that are shown."""

LONGEST_TEXT = 64 * 1024
"""Characters of one text that are shown."""

LARGEST_NUMBER = (1 << 64) - 1
SMALLEST_NUMBER = -(1 << 63)

_CONNECTION = re.compile(r"(?i)(?:dsn|connection[_-]?string)$")
"""Names of what is worth showing without its password."""

_NAMING = frozenset({"name", "key", "id"})
"""Of an object with a name and a value, as in the environment of a container."""

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"


def safe_fields(line: Mapping[Any, Any]) -> dict[str, Plain]:
    """The fields of a line as plain values; the value of a name that means a secret is hidden whatever it is."""
    return {shown(name): _field(name, value, DEPTH) for name, value in line.items()}


def plain(value: object, depth: int = DEPTH) -> Plain:
    """A value as plain values; never raises."""
    try:
        return _plain(value, depth)
    except BaseException:  # noqa: BLE001 - a user's object may raise anything, also SystemExit
        return f"<{name_of(type(value))} that cannot be shown>"


def shown(value: object) -> str:
    """Any object as text that is safe to write."""
    try:
        text = str(value)
        return redact(text.encode("utf-8", "backslashreplace").decode(), limit=LONGEST_TEXT)
    except BaseException:  # noqa: BLE001 - see plain
        return f"<{name_of(type(value))} that cannot be shown>"


def name_of(kind: type) -> str:
    """A class's name, whatever its metaclass says."""
    return type.__dict__["__name__"].__get__(kind)


def _plain(value: object, depth: int) -> Plain:
    kind = type(value)
    if simple := _SIMPLE.get(kind):
        return simple(value)
    if isinstance(value, str):
        return shown(str.__str__(value))
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if isinstance(value, Mapping | list | tuple | set | frozenset) or is_dataclass(kind):
        return _nested(cast("object", value), depth) if depth > 0 else f"<{name_of(kind)} that is nested too deeply>"
    return shown(value)


def _nested(value: object, depth: int) -> Plain:
    names: Iterable[str] | None = getattr(type(value), "_fields", None)
    match value:
        case Mapping():
            members = cast("Mapping[object, object]", value).items()
        case tuple() if names is not None:
            members = zip(names, cast("tuple[object, ...]", value), strict=False)
        case list() | tuple() | set() | frozenset():
            return _items(cast("Iterable[object]", value), depth - 1)
        case _:
            shown_fields = [field for field in fields(cast("Any", value)) if field.repr]
            members = [(field.name, getattr(value, field.name, None)) for field in shown_fields]
    found = list(islice(members, MOST_ITEMS))
    named = any(type(key) is str and key in _NAMING and names_a_secret(str(one)) for key, one in found)
    return {shown(key): HIDDEN if named and key == "value" else _field(key, one, depth - 1) for key, one in found}


def _items(values: Iterable[object], depth: int) -> Plain:
    """Items of a sequence; what follows the name of a secret, in a pair or among arguments, is one."""
    found: list[Plain] = []
    name: object = None
    for value in islice(values, MOST_ITEMS):
        found.append(_field(name, value, depth) if type(value) in (str, bytes) else plain(value, depth))
        name = value.decode("latin-1") if type(value) is bytes else value
    return found


def _field(name: object, value: object, depth: int) -> Plain:
    if type(name) is not str or type(value) is bool or value is None or not names_a_secret(name):
        return plain(value, depth)
    is_uri = type(value) is str and "://" in value and _CONNECTION.search(name)
    return plain(value, depth) if is_uri else HIDDEN


def _number(value: Any) -> Plain:
    return value if SMALLEST_NUMBER <= value <= LARGEST_NUMBER else shown(value)


def _fraction(value: Any) -> Plain:
    return value if math.isfinite(value) else None


def _moment(value: Any) -> Plain:
    return str(value.isoformat()).replace("+00:00", "Z")


_SIMPLE: Mapping[type, Callable[[Any], Plain]] = {
    str: shown,
    bool: bool,
    type(None): lambda _: None,
    int: _number,
    float: _fraction,
    UUID: str,
    datetime: _moment,
    date: _moment,
    time: _moment,
}
"""By the exact type; a subclass may do anything."""
