"""One event of each kind, with the parts that tests vary as arguments."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flowworker.database.records import ClaimedTask, Failed, FailureKind, SourceKind
from flowworker.telemetry import events

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WORKER_ID = UUID(int=1)
RUN_ID = UUID(int=2)

WORKER = events.WorkerInfo(worker_id=WORKER_ID, worker_name="site-1", kind=SourceKind.FLOW, slug="site_report")
QUEUE_WORKER = events.WorkerInfo(worker_id=WORKER_ID, worker_name="mail-1", kind=SourceKind.QUEUE, slug="mail")


def flow_task(**changes: Any) -> ClaimedTask:
    values: dict[str, Any] = {
        "msg_id": 7,
        "run_id": RUN_ID,
        "step_slug": "fetch",
        "task_index": 3,
        "attempt": 1,
        "max_attempts": 3,
        "timeout": 30.0,
        "losses": 0,
        "read_count": 1,
        "enqueued_at": NOON,
        "visible_at": NOON + timedelta(seconds=32),
        "started_at": NOON + timedelta(seconds=2),
        "input": b'"secret payload"',
        "flow_input": None,
        "headers": None,
    }
    return ClaimedTask(**(values | changes))


def job(**changes: Any) -> ClaimedTask:
    values: dict[str, Any] = {"run_id": None, "step_slug": "mail", "task_index": 0, "started_at": None}
    return flow_task(**(values | changes))


def failed(**changes: Any) -> Failed:
    values: dict[str, Any] = {
        "kind": FailureKind.EXCEPTION,
        "message": "ValueError: no such page",
        "stacktrace": "Traceback (most recent call last):\n  ValueError: no such page",
        "duration": 0.5,
    }
    return Failed(**(values | changes))


def task_failed(retry_in: float | None = 4.0, **changes: Any) -> events.TaskFailed:
    return events.TaskFailed(
        worker=WORKER, task=flow_task(), duration=0.5, failure=failed(**changes), retry_in=retry_in
    )


STARTED = events.TaskStarted(worker=WORKER, task=flow_task())
STOPPED = events.TaskStopped(worker=WORKER, task=flow_task(), duration=0.25, output=b'"secret output"')

ALL_EVENTS: tuple[events.Event, ...] = (
    events.WorkerStarted(worker=WORKER, details={"max_concurrency": 10}),
    events.WorkerStopped(worker=WORKER, duration=12.0, reason="SIGTERM"),
    events.LifecycleChanged(worker=WORKER, previous="running", current="draining", reason="SIGTERM"),
    events.PollStarted(worker=WORKER, active_tasks=1),
    events.PollStopped(worker=WORKER, active_tasks=1, task_count=4, unstartable=2, duration=0.003),
    STARTED,
    STOPPED,
    task_failed(),
    task_failed(retry_in=None),
    events.TaskReleased(worker=WORKER, task=flow_task(), reason="shutdown"),
    events.TaskSuperseded(worker=WORKER, task=flow_task(), duration=1.0),
    events.RunStarted(flow_slug="site_report", run_id=RUN_ID),
    events.RunCompleted(worker=WORKER, flow_slug="site_report", run_id=RUN_ID, duration=3.0),
    events.RunFailed(worker=WORKER, flow_slug="site_report", run_id=RUN_ID, duration=3.0, error="no such page"),
    events.LoopBlocked(worker=WORKER, step_slug="fetch", blocked_for=1.5, stack="  File ..."),
    events.WorkerLost(worker=WORKER, lost_worker_id=UUID(int=9), released=3, failed=1),
    events.DatabaseDown(worker=WORKER, connection="claim", error="connection refused"),
    events.DatabaseUp(worker=WORKER, connection="claim", down_for=4.0),
)
