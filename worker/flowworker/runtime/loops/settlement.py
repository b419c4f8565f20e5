"""What follows from the database's answers: counters, events, in words that people and metrics know."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from flowworker.database.records import (
    Completed,
    Failed,
    FailureKind,
    Receipt,
    Released,
    RunEnd,
    RunStatus,
    Verdict,
)
from flowworker.runtime.execution.failures import MESSAGE_LIMIT, clean
from flowworker.runtime.held_tasks import HeldTask
from flowworker.telemetry.events import (
    Event,
    RunCompleted,
    RunFailed,
    TaskFailed,
    TaskReleased,
    TaskStopped,
    TaskSuperseded,
    WorkerInfo,
)

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Counters:
    """Counters of a worker since its start."""

    completed: int = 0
    failed: int = 0
    """Attempts that failed, whether another follows or not."""
    released: int = 0
    superseded: int = 0
    last_error: str | None = None

    def count(self, receipt: Receipt) -> None:
        """Add one answer."""
        match receipt.verdict:
            case Verdict.COMPLETED:
                self.completed += 1
            case Verdict.RETRYING | Verdict.FAILED:
                self.failed += 1
                self.last_error = f"{receipt.result.task.step_slug}: {failure_of(receipt).message}"
            case Verdict.RELEASED if receipt.error is None:
                self.released += 1
            case Verdict.SUPERSEDED:
                self.superseded += 1
            case Verdict.RELEASED | Verdict.UNWRITTEN:
                self.released += 1
                self.last_error = f"{receipt.result.task.step_slug}: {unwritten(receipt)}"
            case _:
                assert_never(receipt.verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Makes events of answers."""

    worker: WorkerInfo
    emit: Callable[[Event], None]

    def of_receipt(self, held_task: HeldTask, receipt: Receipt) -> None:
        """Emit the event for one written result."""
        task, outcome = receipt.result.task, receipt.result.outcome
        match receipt.verdict:
            case Verdict.COMPLETED if isinstance(outcome, Completed):
                self.emit(TaskStopped(worker=self.worker, task=task, duration=outcome.duration, output=outcome.output))
            case Verdict.COMPLETED | Verdict.RETRYING | Verdict.FAILED:
                failure = failure_of(receipt)
                self.emit(
                    TaskFailed(
                        worker=self.worker,
                        task=task,
                        duration=failure.duration,
                        failure=failure,
                        retry_in=receipt.retry_in,
                    )
                )
            case Verdict.RELEASED if receipt.error is None:
                reason = outcome.reason if isinstance(outcome, Released) else "the database gave it back"
                self.emit(TaskReleased(worker=self.worker, task=task, reason=reason))
            case Verdict.RELEASED | Verdict.UNWRITTEN:
                logger.error("%s %s: %s", task.step_slug, task.msg_id, unwritten(receipt))
                self.emit(TaskReleased(worker=self.worker, task=task, reason=unwritten(receipt), refused=True))
            case Verdict.SUPERSEDED:
                self.superseded(held_task, duration_of(receipt))
            case _:
                assert_never(receipt.verdict)

    def superseded(self, held_task: HeldTask, duration: float) -> None:
        """Emit the event for a task that was no longer ours."""
        self.emit(TaskSuperseded(worker=self.worker, task=held_task.task, duration=duration))

    def of_run(self, end: RunEnd) -> None:
        """Emit the event for a run that a result ended."""
        slug = self.worker.slug
        match end.status:
            case RunStatus.COMPLETED:
                self.emit(RunCompleted(worker=self.worker, flow_slug=slug, run_id=end.run_id, duration=end.duration))
            case RunStatus.FAILED:
                self.emit(
                    RunFailed(
                        worker=self.worker,
                        flow_slug=slug,
                        run_id=end.run_id,
                        duration=end.duration,
                        error=clean(end.error or "", MESSAGE_LIMIT),
                    )
                )
            case RunStatus.STARTED:
                return
            case _:
                assert_never(end.status)


def failure_of(receipt: Receipt) -> Failed:
    """The failure behind an answer; the database may have refused an output that the handler returned."""
    outcome = receipt.result.outcome
    if isinstance(outcome, Failed):
        return outcome
    message = receipt.error or "the database refused the result"
    return Failed(kind=FailureKind.OUTPUT, message=message, stacktrace=None, duration=duration_of(receipt))


def unwritten(receipt: Receipt) -> str:
    """What is said about a result that the database takes in no form."""
    return f"no outcome of the attempt can be written, so it runs again: {receipt.error or 'no reason was given'}"


def duration_of(receipt: Receipt) -> float:
    """Seconds the handler took; 0 for a task that went back."""
    match receipt.result.outcome:
        case Completed(duration=duration) | Failed(duration=duration):
            return duration
        case Released():
            return 0.0
        case _:
            assert_never(receipt.result.outcome)
