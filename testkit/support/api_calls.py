"""What a client asks of an API server: verb, resource and name, as in the audit log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

import aiohttp
import orjson

WRITING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
LEASES = "leases"

Object = dict[str, Any]

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_NOTHING: Object = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a path leads to; empty where a path does not say."""

    resource: str = ""
    """Plural, with the subresource after a slash."""
    namespace: str = ""
    name: str = ""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What the client gets."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stream: aiohttp.ClientResponse | None = None
    """Of a watch: where the events come from."""


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """One request of the client."""

    at: float
    """Monotonic seconds."""
    number: int
    """Of a write: its number, from 1, Leases aside. Else 0."""
    method: str
    verb: str
    """As in the audit log: get, list, watch, create, patch, delete..."""
    place: Place
    query: Mapping[str, str]
    body: Object
    """Empty without one."""
    answer: Answer | None = None
    """What the server has said, which may be something else than what the client got."""

    @property
    def resource(self) -> str:
        """Plural, with the subresource after a slash."""
        return self.place.resource

    @property
    def label(self) -> str:
        """What it does, for example `patch flowworkers/status`."""
        return f"{self.verb} {self.resource}"

    @property
    def name(self) -> str:
        """Of the object, also of one to be created."""
        return self.place.name or self.body.get("metadata", _NOTHING).get("name", "")

    @property
    def done(self) -> bool:
        """Whether the server has done it."""
        return self.answer is not None and self.answer.status < 300

    def __str__(self) -> str:
        """For the report of a failed test."""
        return f"{self.label} {self.name} -> {self.answer and self.answer.status}"


def writes(call: Call) -> bool:
    """Whether a call changes anything; the Lease, which follows the clock, aside."""
    return call.verb in WRITING and call.resource != LEASES


def place_of(path: str) -> Place:
    """What a path leads to.

    Example:
        >>> place_of("/apis/apps/v1/namespaces/ours/deployments/report/scale")
        Place(resource='deployments/scale', namespace='ours', name='report')
    """
    parts = [unquote(part) for part in path.split("/") if part]
    rest = parts[2:] if parts[:1] == ["api"] else parts[3:]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "", "")[:3]
    return Place(resource="/".join(filter(None, (resource, subresource))), namespace=namespace, name=name)


def verb_of(method: str, place: Place, query: Mapping[str, str]) -> str:
    """What the API server calls a request."""
    if method == "GET":
        return "watch" if query.get("watch") in {"true", "1"} else "get" if place.name else "list"
    if method == "DELETE":
        return "delete" if place.name else "deletecollection"
    return _VERBS.get(method, method.lower())


def content_of(body: bytes) -> Object:
    """The object in a body; empty when it holds none."""
    try:
        found: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return cast("Object", found) if isinstance(found, dict) else {}
