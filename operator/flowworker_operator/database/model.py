"""What is read, and what a reading brings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from flowworker.option_change import OptionChange
from flowworker_operator.domain.snapshot import Demand, DrainRequest, Fault, Report


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """A FlowWorker."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What one FlowWorker wants to know of its database."""

    key: Key
    kind: Literal["flow", "queue"]
    slug: str
    cap: int
    """Counts end here: more would change no decision."""
    eager: bool = False
    """No worker runs, so that work must be noticed soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one answer of the database says about one subject."""

    tick: float
    """When the question was sent, in seconds of the operator's monotonic clock."""
    demand: Demand | None
    """None only with a fault of the schema: then nothing is known."""
    longest_timeout: int | None = None
    """Seconds; None for a flow that does not exist yet, and for queues, whose timeouts only their workers know."""
    schema_fault: Fault | None = None
    option_changes: Mapping[str, Sequence[OptionChange]] = field(default_factory=dict[str, Sequence[OptionChange]])
    """By revision, as far as its workers have said it."""
    reports: Mapping[str, Report] = field(default_factory=dict[str, Report])
    """The last word of the worker in each pod, by the pod's uid."""
    drains: Mapping[str, DrainRequest] = field(default_factory=dict[str, DrainRequest])
    """Drains in force that this FlowWorker's operator asked for, by the pod's uid."""
    database: str
    """Which database it is, however it is reached: the server's identifier and the database's name."""
