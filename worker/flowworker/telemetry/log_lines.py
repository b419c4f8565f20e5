"""What a log line says about an event: how severe it is, its message, its fields. Pure functions."""

import logging
from typing import Any, assert_never

from flowworker.database.records import ClaimedTask, SourceKind
from flowworker.redaction import redact
from flowworker.redaction.plain_values import LONGEST_TEXT
from flowworker.telemetry import events
from flowworker.telemetry.events import Event, WorkerInfo


def level_of(event: Event) -> int:
    """How severe an event is, as a level of the logging module."""
    match event:
        case events.TaskStarted() | events.PollStarted() | events.PollStopped():
            return logging.DEBUG
        case events.TaskFailed():
            return logging.ERROR if event.retry_in is None else logging.WARNING
        case events.RunFailed():
            return logging.ERROR
        case events.TaskSuperseded() | events.LoopBlocked() | events.WorkerLost() | events.DatabaseDown():
            return logging.WARNING
        case events.LifecycleChanged():
            return logging.INFO if event.current in ("draining", "stopping") else logging.DEBUG
        case (
            events.TaskStopped()
            | events.TaskReleased()
            | events.RunStarted()
            | events.RunCompleted()
            | events.WorkerStarted()
            | events.WorkerStopped()
            | events.DatabaseUp()
        ):
            return logging.INFO
        case _:
            assert_never(event)


def message_of(event: Event) -> str:
    """The sentence an event is logged under; fixed per case, so that it can be searched and counted."""
    match event:
        case events.TaskFailed(retry_in=None):
            return "task failed for good"
        case events.TaskFailed():
            return "task failed, will be retried"
        case events.LifecycleChanged():
            return f"worker {event.current}"
        case _:
            return _MESSAGES[type(event)]


_MESSAGES: dict[type, str] = {
    events.WorkerStarted: "worker started",
    events.WorkerStopped: "worker stopped",
    events.PollStarted: "poll started",
    events.PollStopped: "poll stopped",
    events.TaskStarted: "task started",
    events.TaskStopped: "task completed",
    events.TaskReleased: "task given back",
    events.TaskSuperseded: "result refused: another attempt owns the task or its run has ended",
    events.RunStarted: "run started",
    events.RunCompleted: "run completed",
    events.RunFailed: "run failed",
    events.LoopBlocked: "a handler blocks the event loop",
    events.WorkerLost: "a worker was lost, its tasks were given back",
    events.DatabaseDown: "database connection lost",
    events.DatabaseUp: "database connection is back",
}


def fields_of(event: Event) -> dict[str, Any]:
    """The ids and figures of an event. No payload, no output: those may be private, and large."""
    match event:
        case events.TaskStarted():
            return task_fields(event.worker, event.task)
        case events.TaskStopped() | events.TaskSuperseded():
            fields = task_fields(event.worker, event.task)
            fields["duration"] = round(event.duration, 6)
            return fields
        case events.TaskFailed():
            return task_fields(event.worker, event.task) | _failure(event)
        case events.TaskReleased():
            return task_fields(event.worker, event.task) | {"reason": _safe(event.reason)}
        case events.PollStarted():
            return _worker(event.worker) | {"active_tasks": event.active_tasks}
        case events.PollStopped():
            return _worker(event.worker) | {
                "active_tasks": event.active_tasks,
                "task_count": event.task_count,
                "unstartable": event.unstartable,
                "duration": round(event.duration, 6),
            }
        case events.RunStarted():
            return {"flow": event.flow_slug, "run_id": event.run_id}
        case events.RunCompleted():
            return _run(event)
        case events.RunFailed():
            return _run(event) | {"error": _safe(event.error)}
        case _:
            return _rare(event)


def _rare(
    event: events.WorkerStarted
    | events.WorkerStopped
    | events.LifecycleChanged
    | events.LoopBlocked
    | events.WorkerLost
    | events.DatabaseDown
    | events.DatabaseUp,
) -> dict[str, Any]:
    fields = _worker(event.worker)
    match event:
        case events.WorkerStarted():
            return {**event.details, **fields}
        case events.WorkerStopped():
            return fields | {"duration": round(event.duration, 3), "reason": _safe(event.reason)}
        case events.LifecycleChanged():
            return fields | {
                "previous": event.previous,
                "current": event.current,
                "reason": _safe(event.reason),
            }
        case events.LoopBlocked():
            return fields | {
                "step": event.step_slug,
                "blocked_for": round(event.blocked_for, 3),
                "stack": _safe(event.stack),
            }
        case events.WorkerLost():
            return fields | {
                "lost_worker_id": event.lost_worker_id,
                "released": event.released,
                "failed": event.failed,
            }
        case events.DatabaseDown():
            return fields | {"connection": event.connection, "error": _safe(event.error)}
        case events.DatabaseUp():
            return fields | {"connection": event.connection, "down_for": round(event.down_for, 3)}
        case _:
            assert_never(event)


def _worker(worker: WorkerInfo) -> dict[str, Any]:
    source = "flow" if worker.kind is SourceKind.FLOW else "queue"
    return {source: worker.slug, "worker": worker.worker_name, "worker_id": worker.worker_id}


def task_fields(worker: WorkerInfo, task: ClaimedTask) -> dict[str, Any]:
    """The ids that every line about a task carries; a job of a queue has no run, step or index."""
    ids = _worker(worker)  # filled in place: this is paid twice for each task
    ids["msg_id"], ids["attempt"], ids["max_attempts"] = task.msg_id, task.attempt, task.max_attempts
    if task.run_id is not None:
        ids["run_id"], ids["step"], ids["task_index"] = task.run_id, task.step_slug, task.task_index
    return ids


def _run(event: events.RunCompleted | events.RunFailed) -> dict[str, Any]:
    return _worker(event.worker) | {
        "flow": event.flow_slug,
        "run_id": event.run_id,
        "duration": round(event.duration, 6),
    }


def _failure(event: events.TaskFailed) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "failure": event.failure.kind.value,
        "error": _safe(event.failure.message),
        "duration": round(event.duration, 6),
    }
    if event.retry_in is not None:
        fields["retry_in"] = round(event.retry_in, 3)
    if event.failure.stacktrace is not None:
        fields["exception"] = _safe(event.failure.stacktrace)
    return fields


def _safe(text: str) -> str:
    return redact(text, limit=LONGEST_TEXT)
