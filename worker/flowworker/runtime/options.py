"""Options of a worker, checked once. Names are the Elixir worker's; durations are seconds."""

import math
import os
import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from flowworker.errors import UsageError
from flowworker.runtime.loops.wakeup import Strategy

Choice = TypeVar("Choice", bound=StrEnum)


class WhenDrained(StrEnum):
    """What a worker does once a drain request has emptied it."""

    EXIT = "exit"
    WAIT = "wait"
    """Stay, ready and idle, until the request lapses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where a process runs, for its report; what the operator sets in a pod."""

    namespace: str | None = None
    flowworker: str | None = None
    """Name of the FlowWorker resource."""
    pod_name: str | None = None
    pod_uid: str | None = None
    revision: str | None = None

    @property
    def place(self) -> str:
        """The pod, or the machine and process."""
        return self.pod_name or f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """Options of one worker."""

    worker_id: UUID | None = None
    worker_name: str
    max_concurrency: int = 10
    batch_size: int = 10
    signal_strategy: Strategy = Strategy.POLLING
    min_poll_interval: float = 1.0
    max_poll_interval: float = 5.0
    notify_fallback_interval: float = 30.0
    drain_timeout: float | None = None
    when_drained: WhenDrained = WhenDrained.EXIT
    start_timeout: float = 60.0
    compile: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            UsageError: names the option and what is allowed.
        """
        for name in ("max_concurrency", "batch_size"):
            _require(getattr(self, name) >= 1, name, "a whole number of 1 or more", getattr(self, name))
        for name in ("min_poll_interval", "max_poll_interval", "notify_fallback_interval"):
            value = getattr(self, name)
            _require(0 < value < math.inf, name, "a number of seconds above 0", value)
        _require(
            self.drain_timeout is None or self.drain_timeout >= 0,
            "drain_timeout",
            "0 or more, or None",
            self.drain_timeout,
        )
        _require(self.start_timeout >= 0, "start_timeout", "0 or more", self.start_timeout)
        _require(
            self.min_poll_interval <= self.max_poll_interval,
            "min_poll_interval",
            f"at most max_poll_interval ({self.max_poll_interval:g})",
            self.min_poll_interval,
        )


def choice(name: str, kind: type[Choice], value: str) -> Choice:
    """A value of an enumeration.

    Raises:
        UsageError: it has no such value.
    """
    _require(value in list(kind), name, " or ".join(repr(str(one)) for one in kind), value)
    return kind(value)


def _require(condition: bool, name: str, allowed: str, value: object) -> None:
    if not condition:
        raise UsageError(f"{name} must be {allowed}, got {value!r}")
