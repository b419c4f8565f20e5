"""From what the database says about a flow task to the verdict on our result: pure."""

from typing import assert_never
from uuid import UUID

from flowworker.database.flow_results import Answer, Fence, TaskNow
from flowworker.database.records import Completed, Failed, Outcome, Receipt, Released, TaskResult, Verdict

COMPLETED = "completed"
QUEUED = "queued"
STARTED = "started"
FAILED = "failed"
"""The only end that a failure of ours has: core 0.15.1 and newer set the tasks that an ended run or step leaves behind
`cancelled` or `skipped`, and those are others' doing."""


def receipt_of_answer(result: TaskResult, outcome: Outcome, answer: Answer) -> Receipt:
    """Judge the answer to a write that passed the fence.

    Args:
        result: what the runtime asked to be written.
        outcome: what was written, which differs after the database refused an output.
        answer: the task's state afterwards.
    """
    match outcome:
        case Completed():
            verdict = {COMPLETED: Verdict.COMPLETED, FAILED: Verdict.FAILED}.get(answer.status or "")
        case Failed():
            verdict = {QUEUED: Verdict.RETRYING, FAILED: Verdict.FAILED}.get(answer.status or "")
        case Released():
            verdict = Verdict.RELEASED
        case _:
            assert_never(outcome)
    return Receipt(
        result=result,
        verdict=verdict or Verdict.SUPERSEDED,
        retry_in=answer.retry_in if verdict is Verdict.RETRYING else None,
        error=answer.error if isinstance(outcome, Completed) and verdict is Verdict.FAILED else None,
    )


def is_still_ours(row: TaskNow | None, fence: Fence) -> bool:
    """Whether a task that a write left out is waiting for its result: it was locked, or is again what it was."""
    return (
        row is not None
        and row.status == row.run_status == STARTED
        and (row.worker_id, row.attempt, row.started_at) == (fence.worker_id, fence.attempt, fence.started_at)
    )


def receipt_of_row(result: TaskResult, outcome: Outcome, row: TaskNow | None, worker_id: UUID) -> Receipt:
    """Judge a result that the fence kept out: written by an earlier try of ours whose reply was lost, or superseded."""
    if row is None:
        return Receipt(result=result, verdict=Verdict.SUPERSEDED, error="the task no longer exists")
    verdict = _earlier_verdict(result, outcome, row, worker_id)
    violation = isinstance(outcome, Completed) and verdict is Verdict.FAILED
    return Receipt(
        result=result,
        verdict=verdict,
        retry_in=0.0 if verdict is Verdict.RETRYING else None,  # the delay went with the lost reply; None means never
        error=row.error if violation else None,
    )


def _earlier_verdict(result: TaskResult, outcome: Outcome, row: TaskNow, worker_id: UUID) -> Verdict:
    task = result.task
    ours = row.worker_id == worker_id
    same_attempt = ours and row.attempt == task.attempt and row.started_at == task.started_at
    match outcome:
        case Completed():
            if same_attempt and row.status == COMPLETED:
                return Verdict.COMPLETED
            return Verdict.FAILED if same_attempt and row.status == FAILED else Verdict.SUPERSEDED
        case Failed(final=final):
            ended = ours and row.started_at == task.started_at and row.attempt >= task.attempt
            if row.status == FAILED and ended and (final or same_attempt):
                return Verdict.FAILED
            waiting = ours and row.status == QUEUED and row.attempt == task.attempt
            return Verdict.RETRYING if waiting else Verdict.SUPERSEDED
        case Released():
            back = row.status == QUEUED and row.worker_id is None and row.attempt == task.attempt - 1
            return Verdict.RELEASED if back else Verdict.SUPERSEDED
        case _:
            assert_never(outcome)
