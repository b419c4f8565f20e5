"""What the database hands to the runtime and takes back from it.

The same records describe a task of a pgflow flow and a job of a plain pgmq queue, so that the runtime has one path
for both. JSON stays bytes until the handler's own types decode it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID


class SourceKind(StrEnum):
    """Where tasks come from."""

    FLOW = "flow"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTask:
    """One task (or job) that this worker owns until it is finished, released or lost.

    `msg_id` identifies it within its queue. The fence is (`attempt`, `started_at`) for a flow task and `read_count`
    for a job: a write that carries an older fence than the row is refused by the database.
    """

    msg_id: int
    run_id: UUID | None
    """None for a job of a plain queue."""
    step_slug: str
    """The step of a flow task; the queue's name for a job."""
    task_index: int
    attempt: int
    """1 for the first attempt."""
    max_attempts: int
    timeout: float
    """Effective timeout of one attempt, in seconds."""
    losses: int
    """How often a worker died holding this task."""
    read_count: int
    enqueued_at: datetime
    visible_at: datetime
    """When the message becomes visible to other workers again unless the lease is extended."""
    started_at: datetime | None
    """The database's start of this attempt; None for a job."""
    input: bytes
    """JSON: the object of dependency outputs of a single step, the element of a map task, the payload of a job."""
    flow_input: bytes | None
    """JSON of the run's input where the claim carried it; None means load it on demand (or: a job)."""
    headers: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The handler returned."""

    output: bytes
    """JSON."""
    duration: float
    """Seconds."""


class FailureKind(StrEnum):
    """What ended an attempt."""

    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    INPUT = "input"
    OUTPUT = "output"
    EXIT = "exit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The attempt failed. The database decides whether another follows, unless `final`."""

    kind: FailureKind
    message: str
    stacktrace: str | None
    duration: float
    retry_after: float | None = None
    """Seconds until the next attempt, chosen by the handler; None follows the backoff of the flow or queue."""
    final: bool = False
    """No further attempt, whatever `max_attempts` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The task goes back unfinished, its attempt not charged."""

    reason: str
    wait: float = 0.0
    """Seconds until it may start again; a job that comes back for this more than once waits ever longer."""


Outcome: TypeAlias = Completed | Failed | Released


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """A claimed task with what became of it, on its way to the database."""

    task: ClaimedTask
    outcome: Outcome


class Verdict(StrEnum):
    """What the database made of a result."""

    COMPLETED = "completed"
    RETRYING = "retrying"
    FAILED = "failed"
    RELEASED = "released"
    SUPERSEDED = "superseded"
    """The fence was lost: another attempt owns the task, or its run has ended. Nothing was written."""
    UNWRITTEN = "unwritten"
    """The database takes no outcome of this attempt, whatever it says. The task is left as it is, and is run again."""


class RunStatus(StrEnum):
    """Status of a run, in pgflow's words."""

    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """A run that one of our results brought to its end."""

    run_id: UUID
    status: RunStatus
    duration: float
    """Seconds from the run's start to its end, by the database's clock."""
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The database's answer to one result."""

    result: TaskResult
    verdict: Verdict
    retry_in: float | None = None
    """Seconds until the next attempt may start; only with RETRYING."""
    error: str | None = None
    """Why the verdict differs from the outcome, for example a type violation; None otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What the database says about a worker of the same flow or queue."""

    worker_id: UUID
    boot_id: UUID
    pod_uid: str | None
    state: str
    beat: datetime
    """Changes with every heartbeat. Compare it only with other times of the database: it is not the observer's."""
