"""Whether a live object still is what was rendered.

The API server adds defaults and others add fields of their own (labels, injected sidecars): neither is drift. Drift is
a field of ours that is gone or has another value; the API server rewrites the quantity `0.5` to `500m`.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias, cast

_KEYS = ("mountPath", "devicePath", "containerPort", "uid", "ip", "topologyKey", "name", "path")
"""What identifies an entry of a list; the first key that all rendered entries have counts. The API server's own keys
come before `name`: two mounts may be of one volume."""

_ZERO_COUNTS = frozenset(
    {
        "allowPrivilegeEscalation", "automountServiceAccountToken", "fsGroup", "hostUsers", "runAsGroup",
        "runAsNonRoot", "runAsUser", "tolerationSeconds",
    }
)  # fmt: skip
"""Fields where False or 0 means something else than nothing. The API server keeps both as they were written."""

_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?\d{1,3}))?", re.ASCII)
_LONGEST = 64
"""Characters of a quantity. Any text of the cluster may be compared as one, and a longer one is none."""

_POWERS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL = {suffix: Decimal(10) ** power for suffix, power in _POWERS.items()}
_BINARY = {f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)}

Path: TypeAlias = tuple[str | tuple[str, object], ...]
"""Where a field is: names of fields, and for an entry of a list what identifies it."""


def drifted(rendered: object, live: object) -> bool:
    """Whether something of the rendered object is missing or different in the live one."""
    return difference(rendered, live) is not None


def difference(rendered: object, live: object) -> Path | None:
    """Where the first difference is; None when the live object is as it was rendered."""
    match rendered:
        case Mapping():
            ours = cast("Mapping[str, Any]", rendered)
            return _fields(ours, cast("Mapping[str, Any]", live)) if isinstance(live, Mapping) else ()
        case list():
            return _items(cast("list[Any]", rendered), cast("list[Any]", live)) if isinstance(live, list) else ()
        case _:
            return None if rendered == live or _same_quantity(rendered, live) else ()


def place(path: Path) -> str:
    """A path in words: `spec.template.spec.containers[name=worker].image`."""
    parts = (f".{part}" if isinstance(part, str) else f"[{part[0]}={part[1]}]" for part in path)
    return "".join(parts).removeprefix(".")


def _fields(rendered: Mapping[str, Any], live: Mapping[str, Any]) -> Path | None:
    for key, value in rendered.items():
        if not _empty(key, value, live) and (inner := difference(value, live.get(key))) is not None:
            return key, *inner
    return None


def _items(rendered: Sequence[Any], live: Sequence[Any]) -> Path | None:
    key = _key(rendered)
    if key is None:
        return () if len(rendered) != len(live) or any(map(drifted, rendered, live)) else None
    entries = [cast("Mapping[str, Any]", entry) for entry in live if isinstance(entry, Mapping)]
    for entry in rendered:
        # A key may have several entries, such as a port of TCP and of UDP: one of them has to be ours.
        found = [difference(entry, other) for other in entries if entry[key] == other.get(key)]
        if None not in found:
            return (key, entry[key]), *(next(iter(found), None) or ())
    return None


def _key(entries: Sequence[Any]) -> str | None:
    if not all(isinstance(entry, Mapping) for entry in entries):
        return None
    return next((key for key in _KEYS if entries and all(_is_scalar(entry.get(key)) for entry in entries)), None)


def _is_scalar(value: object) -> bool:
    """Whether a value can identify an entry: others may add fields to a map, and then it would be another one."""
    return value is not None and not isinstance(value, Mapping | list)


def _empty(key: str, value: object, live: Mapping[str, Any]) -> bool:
    """The API server drops empty lists, maps and zero values that mean the same as nothing; null asks for nothing."""
    if value is None:
        return True
    return not value and live.get(key) is None and key not in _ZERO_COUNTS


def _same_quantity(one: object, other: object) -> bool:
    """Whether two values are quantities of the same size."""
    sizes = (_size(one), _size(other))
    return sizes[0] is not None and sizes[0] == sizes[1]


def _size(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)
    match = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    number, suffix, exponent = match.groups()
    factor = (_DECIMAL | _BINARY)[suffix] if suffix else Decimal(10) ** int(exponent or 0)
    return Decimal(number) * factor
