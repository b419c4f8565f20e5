"""What a worker shows of itself: plain values, safe to read from any thread."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from flowworker.database.records import SourceKind
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.runtime.loops.settlement import Counters
from flowworker.runtime.loops.wakeup import SignalState
from flowworker.runtime.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveTask:
    """One task that is held."""

    run_id: UUID | None
    step_slug: str
    task_index: int
    msg_id: int
    attempt: int
    held_for: float
    """Seconds since it was claimed."""
    time_left: float | None
    """Seconds until its deadline, negative past it; None before its handler starts."""
    lingering: bool
    """Its attempt is over and its handler still runs."""
    handle: object
    """The asyncio task, thread or process of its handler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A worker at one moment."""

    workload: Workload
    """The flow or queue definition."""
    kind: SourceKind
    slug: str
    queue_name: str
    worker_id: UUID
    worker_name: str
    lifecycle: Lifecycle
    reason: str
    """Why it is in this state."""
    option_changes: Sequence[str] = ()
    """Options of the flow that differ between code and database at the start; in force are the database's."""
    drained: bool
    max_concurrency: int
    batch_size: int
    visibility_timeout: float
    """Seconds for which a claim or a lease hides a message; for a flow on top of each task's timeout."""
    signal: SignalState
    active_tasks: Sequence[ActiveTask]
    in_flight: int
    free_slots: int
    unwritten_results: int
    counters: Counters
    unwritten_for: float | None
    """Age in seconds of the oldest result that is not written yet; None when all are."""
    unclaimed_for: float | None
    """Seconds since the last claim that the database answered; None before the first."""
    wanting_for: float | None
    """Seconds since when the worker has wanted to claim and no claim was answered; None while it wants none."""
    doubts: int
    """Claims and writes whose outcome is not known."""
    beat_age: float
    """Seconds since the last successful heartbeat."""
    loop_blocked_for: float
    """Seconds for which the event loop has not run; 0 when it runs."""


def active_task(held_task: HeldTask, now: float) -> ActiveTask:
    """One held task as it is shown."""
    task = held_task.task
    return ActiveTask(
        run_id=task.run_id,
        step_slug=task.step_slug,
        task_index=task.task_index,
        msg_id=task.msg_id,
        attempt=task.attempt,
        held_for=now - held_task.claimed_at,
        time_left=None if held_task.deadline is None else held_task.deadline - now,
        lingering=held_task.lingering,
        handle=held_task.handle,
    )
