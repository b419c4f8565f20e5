"""Whether a live object still is what was rendered.

The API server adds defaults and others add fields of their own (labels, injected sidecars): neither is drift. Drift is
a field of ours that is gone or has another value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from flowworker_operator.render.quantity import same_quantity

_KEYS = ("name", "mountPath", "uid", "containerPort")
"""What identifies an entry of a list; the first key that the rendered entry has counts."""


def drifted(rendered: object, live: object) -> bool:
    """Whether something of the rendered object is missing or different in the live one."""
    match rendered:
        case Mapping():
            ours = cast("Mapping[str, Any]", rendered)
            return not isinstance(live, Mapping) or _fields(ours, cast("Mapping[str, Any]", live))
        case list():
            items = cast("list[Any]", rendered)
            return not isinstance(live, list) or _items(items, cast("list[Any]", live))
        case _:
            return rendered != live and not same_quantity(rendered, live)


def _fields(rendered: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    return any(drifted(value, live.get(key)) for key, value in rendered.items() if not _empty(value, live.get(key)))


def _items(rendered: Sequence[Any], live: Sequence[Any]) -> bool:
    key = _key(rendered)
    if key is None:
        return list(rendered) != list(live)
    entries = [cast("Mapping[str, Any]", entry) for entry in live if isinstance(entry, Mapping)]
    found = {entry.get(key): entry for entry in entries}
    return any(drifted(entry, found.get(entry[key])) for entry in rendered)


def _key(entries: Sequence[Any]) -> str | None:
    if not all(isinstance(entry, Mapping) for entry in entries):
        return None
    return next((key for key in _KEYS if entries and all(key in entry for entry in entries)), None)


def _empty(value: object, live: object) -> bool:
    """The API server drops empty lists, maps and zero values that mean the same as nothing."""
    return live is None and value in ({}, [], None, "")
