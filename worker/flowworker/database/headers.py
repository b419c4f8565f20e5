"""Our corner of a message's headers: the object under `flowworker`. Whatever else is there belongs to others.

A flow's message counts `losses`. A job's message counts `failures` and `releases`, and keeps the last `error`; an
archived job tells how it ended (`flowworker.database.queue_jobs`).
"""

from collections.abc import Mapping
from typing import Any

import orjson

KEY = "flowworker"

MOST = 1_000_000
"""Larger counts are taken for this one: they were not counted by us, and fit into no column."""


def our_headers(headers: bytes | None) -> Mapping[str, Any]:
    """The object under our key; empty where there is none, or where it is no object, or unreadable."""
    if headers is None:
        return {}
    try:
        found: Any = orjson.loads(headers)
    except orjson.JSONDecodeError:  # jsonb holds what no JSON library reads: numbers beyond float, deep nesting
        return {}
    ours: Any = found.get(KEY) if isinstance(found, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return ours if isinstance(ours, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def count_of(ours: Mapping[str, Any], name: str) -> int:
    """A counter of ours, at most `MOST`; 0 where it is missing or no count."""
    value: object = ours.get(name, 0)
    return min(value, MOST) if type(value) is int and value > 0 else 0


def losses_of(headers: bytes | None) -> int:
    """How often a worker died holding a flow's task."""
    return count_of(our_headers(headers), "losses")
