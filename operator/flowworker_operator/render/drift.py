"""Whether a live object still is what was rendered.

The API server adds defaults and others add fields of their own (labels, injected sidecars): neither is drift. Drift is
a field of ours that is gone or has another value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from flowworker_operator.render.quantity import same_quantity

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
    return any(drifted(value, live.get(key)) for key, value in rendered.items() if not _empty(key, value, live))


def _items(rendered: Sequence[Any], live: Sequence[Any]) -> bool:
    key = _key(rendered)
    if key is None:
        return len(rendered) != len(live) or any(map(drifted, rendered, live))
    entries = [cast("Mapping[str, Any]", entry) for entry in live if isinstance(entry, Mapping)]
    return not all(any(_same(key, entry, other) for other in entries) for entry in rendered)


def _same(key: str, rendered: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """A key may have several entries, such as a port of TCP and of UDP: one of them has to be ours."""
    return rendered[key] == live.get(key) and not drifted(rendered, live)


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
