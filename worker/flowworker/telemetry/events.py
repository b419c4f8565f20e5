"""Everything that happens in a worker, as one stream of frozen events.

Logs, metrics and traces are subscribers of this stream, and so is any callable a user passes. The names follow the
Elixir worker's telemetry (`worker start`, `task exception`, …); docs/reference/events.md holds the mapping.
Durations are seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from flowworker.database.records import ClaimedTask, Failed, SourceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """Which worker an event is about."""

    worker_id: UUID
    worker_name: str
    kind: SourceKind
    slug: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted:
    """The worker is registered and may claim."""

    worker: WorkerInfo
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    """Options worth a line in the log: concurrency, signal strategy, version. Never a connection string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped:
    """The worker has stopped for good."""

    worker: WorkerInfo
    duration: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleChanged:
    """The worker moved from one life-cycle state to another."""

    worker: WorkerInfo
    previous: str
    current: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PollStarted:
    """A claim is about to be sent."""

    worker: WorkerInfo
    active_tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PollStopped:
    """A claim was answered."""

    worker: WorkerInfo
    active_tasks: int
    task_count: int
    unstartable: int
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted:
    """A handler is about to run. For a queue this is `job start`: id, attempt and payload are in `task`.

    Emitted in the context (`contextvars`) that the handler then runs in, and no one else: a synchronous subscriber
    may set context variables for it, such as the current span or the ids in log lines.
    """

    worker: WorkerInfo
    task: ClaimedTask


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStopped:
    """A task was completed and the database has taken its output (`job stop` for a queue)."""

    worker: WorkerInfo
    task: ClaimedTask
    duration: float
    output: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed:
    """`task exception` (`job error` for a queue): an attempt ended by an exception, a timeout or a crash."""

    worker: WorkerInfo
    task: ClaimedTask
    duration: float
    failure: Failed
    retry_in: float | None
    """Seconds until the next attempt; None when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReleased:
    """A task went back unfinished, its attempt not charged."""

    worker: WorkerInfo
    task: ClaimedTask
    reason: str
    refused: bool = False
    """Whether the attempt had an outcome, which the database took in no form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSuperseded:
    """A result was refused by the fence: someone else owns the task, or its run has ended."""

    worker: WorkerInfo
    task: ClaimedTask
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A client started a run."""

    flow_slug: str
    run_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted:
    """A result of this worker completed the run."""

    worker: WorkerInfo
    flow_slug: str
    run_id: UUID
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed:
    """A result of this worker failed the run."""

    worker: WorkerInfo
    flow_slug: str
    run_id: UUID
    duration: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopBlocked:
    """A handler keeps the event loop from running; `blocked_for` grows with each report."""

    worker: WorkerInfo
    step_slug: str
    blocked_for: float
    stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """This worker saw a peer die and marked it lost."""

    worker: WorkerInfo
    lost_worker_id: UUID
    released: int
    """Tasks given back by the same pass, whichever lost worker held them."""
    failed: int
    """Tasks that were past their crash budget, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseDown:
    """The database stopped answering on one of the worker's connections."""

    worker: WorkerInfo
    connection: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUp:
    """The connection works again."""

    worker: WorkerInfo
    connection: str
    down_for: float


Event: TypeAlias = (
    WorkerStarted
    | WorkerStopped
    | LifecycleChanged
    | PollStarted
    | PollStopped
    | TaskStarted
    | TaskStopped
    | TaskFailed
    | TaskReleased
    | TaskSuperseded
    | RunStarted
    | RunCompleted
    | RunFailed
    | LoopBlocked
    | WorkerLost
    | DatabaseDown
    | DatabaseUp
)
