"""Our corner of a message's headers: the object under `flowworker`. Whatever else is there belongs to others.

A flow's message counts `losses`. A job's message counts `failures` and `releases`, and keeps the last `error`; an
archived job records how it ended (`flowworker.database.queue_jobs`).
"""

from collections.abc import Mapping
from typing import Any, cast

import orjson

KEY = "flowworker"

MOST = 1_000_000
"""Larger counts are taken for this one: they were not counted by us, and fit into no column."""


def readable_headers(headers: bytes | None) -> Mapping[str, Any]:
    """A message's headers; empty where there are none, or where they are no object, or unreadable.

    They are whatever a sender wrote, and jsonb holds what no JSON library reads: numbers beyond float, deep nesting.
    """
    if not headers:
        return {}
    try:
        found: object = orjson.loads(headers)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def our_headers(headers: bytes | None) -> Mapping[str, Any]:
    """The object under our key; empty where there is none, or where it is no object, or unreadable."""
    ours: object = readable_headers(headers).get(KEY)
    return cast("dict[str, Any]", ours) if isinstance(ours, dict) else {}


def count_of(ours: Mapping[str, Any], name: str) -> int:
    """A counter of ours, at most `MOST`; 0 where it is missing or no count."""
    value: object = ours.get(name, 0)
    return min(value, MOST) if type(value) is int and value > 0 else 0


def losses_of(headers: bytes | None) -> int:
    """How often a worker died holding a flow's task."""
    return count_of(our_headers(headers), "losses")
