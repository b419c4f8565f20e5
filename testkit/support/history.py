"""What happened in a scenario, from three witnesses: the handlers' journal, an audit in the database, and the test."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Nanoseconds: TypeAlias = int
"""Of CLOCK_MONOTONIC."""

STARTED, QUEUED, COMPLETED, FAILED = "started", "queued", "completed", "failed"

TERMINAL = frozenset({COMPLETED, FAILED, "skipped", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """A task, or a job (then owner and step are the queue, and the index is the message id)."""

    owner: str
    step: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.step}[{self.index}] of {self.owner}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One time that a handler ran."""

    id: str
    key: Key
    attempt: int
    worker: str
    began: Nanoseconds
    ended: Nanoseconds | None = None
    """None when the handler never got to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One committed change of a task or job, in commit order."""

    key: Key
    status: str
    attempt: int
    """After the change; of a job: how often its message was read."""
    at: Nanoseconds
    worker: str | None = None
    """Name of the process that held the task."""
    incarnation: str | None = None
    """Id of the worker that held the task or job."""
    execution: str | None = None
    """The execution whose output or error was written."""
    output: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that the test did to the system."""

    name: str
    began: Nanoseconds
    ended: Nanoseconds
    workers: frozenset[str] | None = None
    """Whom it hit; None means all."""
    rerun_within: float | None = None
    """Seconds from its begin within which what was in flight must run again."""
    silences: bool = True
    """Whether the heartbeats of these workers could not arrive, so that their peers had to take them for dead."""
    lasts: bool = False
    """Whether these workers never beat again, whenever the fault itself was over: a kill."""
    only_by_death: bool = False
    """Whether it explains a repeat only where the worker was declared lost meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One incarnation of a worker, as the database knows it."""

    incarnation: str
    worker: str
    """Name of the process."""
    serves: str
    """Slug of the flow or name of the queue."""
    born: Nanoseconds
    lost: Nanoseconds | None = None
    """When it was declared lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything the checker looks at."""

    started: Collection[str]
    """Runs (or jobs, as `queue:id`) whose start was acknowledged."""
    in_doubt: Collection[str] = ()
    """Starts without an answer: both outcomes are legal."""
    ends: Mapping[str, str] = field(default_factory=dict[str, str])
    """Status of each run or job in the end."""
    dependencies: Mapping[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    """Of each known step; of a queue: nothing."""
    executions: Sequence[Execution] = ()
    transitions: Sequence[Transition] = ()
    faults: Sequence[Fault] = ()
    lives: Sequence[Life] = ()
    messages: Collection[str] = ()
    """Owners of messages that are in the queue in the end."""
    charges: bool = True
    """Whether the attempts in transitions are those of executions (tasks of flows) or read counts (jobs)."""


def owner_of(key: Key, *, charges: bool) -> str:
    """What `History.started` calls the owner of a task or job."""
    return key.owner if charges else f"{key.owner}:{key.index}"
