"""The wire between a worker and its child processes: pickled values, each after its length in eight bytes.

Both ends are the same code in the same trust: the parent started the child and no other process holds the pipe.
"""

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from flowworker.database.records import Failed
from flowworker.definition.child import ChildContext
from flowworker.definition.place import HandlerReference
from flowworker.redaction import Discretion
from flowworker.telemetry.logs import LogForm

LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """The first frame: what the child needs to import what the parent can import, and to log and hide as it does."""

    sys_path: tuple[str, ...]
    discretion: Discretion
    log_form: LogForm | None = None
    """None where the parent's logging is its program's own affair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Import a handler's module; answered by an empty output. So that importing costs no handler its time."""

    reference: HandlerReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Run one handler."""

    reference: HandlerReference
    input: bytes
    flow_input: bytes | None
    context: ChildContext
    ids: Mapping[str, Any] | None = None
    """The task's, for log lines; None where no log lines of ours are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a request."""

    result: bytes | Failed
    """The encoded output, or the failure."""


Frame: TypeAlias = Greeting | Prepare | Request | Answer


def pack(frame: Frame) -> bytes:
    """A frame as bytes."""
    body = pickle.dumps(frame, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Any:
    """The frame in the bytes after a length."""
    return pickle.loads(body)  # noqa: S301 - see above
