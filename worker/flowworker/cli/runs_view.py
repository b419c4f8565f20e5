"""Runs as text: lists, one run with its steps, and what changed since the last look. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from flowworker.cli.output import NONE, Column, ago, as_table, one_line, span, stamp
from flowworker.database.cancelling import CancelledRun
from flowworker.database.runs import Run, RunDetails, RunSummary, StepState, StepStatus, TaskState, TaskStatus
from flowworker.database.stuck_runs import StuckReason, StuckRun
from flowworker.definition.conditions import Conditions

CONDITION_UNMET = "condition_unmet"

OUTPUT_LIMIT = 500
"""Longest output of a run shown as text."""


def run_columns(now: datetime) -> Sequence[Column[RunSummary]]:
    """Columns of a list of runs."""
    return (
        Column(title="RUN", cell=lambda run: run.run_id),
        Column(title="FLOW", cell=lambda run: run.flow_slug),
        Column(title="STATUS", cell=lambda run: run.status),
        Column(title="STEPS", cell=lambda run: f"{run.steps - run.remaining_steps}/{run.steps}", right=True),
        Column(title="AGE", cell=lambda run: ago(run.started_at, now), right=True),
        Column(title="TOOK", cell=lambda run: took(run.started_at, run.completed_at or run.failed_at), right=True),
        Column(title="ERROR", cell=lambda run: run.error),
    )


def stuck_columns(now: datetime) -> Sequence[Column[StuckRun]]:
    """Columns of a list of runs that are stuck."""
    return (
        Column(title="RUN", cell=lambda run: run.run_id),
        Column(title="FLOW", cell=lambda run: run.flow_slug),
        Column(title="AGE", cell=lambda run: ago(run.started_at, now), right=True),
        Column(title="TASK", cell=lambda run: None if run.step_slug is None else f"{run.step_slug}[{run.task_index}]"),
        Column(title="SINCE", cell=lambda run: ago(run.since, now), right=True),
        Column(title="WHY", cell=lambda run: STUCK_BECAUSE[run.reason], limit=None),
    )


STUCK_BECAUSE: Mapping[StuckReason, str] = {
    StuckReason.NOT_SERVED: "no worker serves the flow: start one",
    StuckReason.WORKER_GONE: "its worker is gone, and no other serves the flow: start one, which takes it over",
    StuckReason.MESSAGE_GONE: "its message is gone from the queue: cancel and retry the run",
    StuckReason.STALLED: "pgflow has put it back too often: cancel and retry the run",
    StuckReason.NOTHING_LEFT: "no task is open: cancel and retry the run",
}
"""What each reason means, and what helps."""


def step_columns(run: Run, now: datetime) -> Sequence[Column[StepState]]:
    """Columns of the steps of one run; a step that is not done shows how long it has been at it, or was."""
    last = run.ended_at or now
    return (
        Column(title="STEP", cell=lambda step: step.step_slug),
        Column(title="KIND", cell=lambda step: step.kind),
        Column(title="STATUS", cell=lambda step: step.status),
        Column(title="TASKS", cell=progress, right=True),
        Column(title="ATTEMPTS", cell=lambda step: step.attempts, right=True),
        Column(title="TOOK", cell=lambda step: took(step.started_at, step.ended_at or last), right=True),
        Column(title="ERROR", cell=lambda step: why(step)),
    )


TASK_COLUMNS: Sequence[Column[TaskState]] = (
    Column(title="TASK", cell=lambda task: f"{task.step_slug}[{task.task_index}]"),
    Column(title="STATUS", cell=lambda task: task.status),
    Column(title="ATTEMPTS", cell=lambda task: task.attempts, right=True),
    Column(title="TOOK", cell=lambda task: took(task.started_at, task.completed_at or task.failed_at), right=True),
    Column(title="ERROR", cell=lambda task: task.error),
)


def run_text(details: RunDetails, now: datetime) -> str:
    """One run: what it is, its steps, the tasks that failed or are at work, its output."""
    blocks = [
        "\n".join((*headline(details.run), *links(details))),
        as_table(step_columns(details.run, now), details.steps),
    ]
    worth = [task for task in details.tasks if _deserves_a_line(task)]
    if worth:
        blocks.append(as_table(TASK_COLUMNS, worth))
    if details.run.output_json is not None:
        blocks.append("output: " + one_line(details.run.output_json.decode(), OUTPUT_LIMIT))
    return "\n\n".join(blocks)


def headline(run: Run) -> Iterator[str]:
    """The lines above a run's steps."""
    yield f"run:     {run.run_id}"
    yield f"flow:    {run.flow_slug}"
    yield f"status:  {run.status}"
    yield f"started: {stamp(run.started_at)}"
    if run.has_ended:
        yield f"took:    {took(run.started_at, run.ended_at)}"
    if run.error:
        yield f"error:   {one_line(run.error, OUTPUT_LIMIT)}"


def links(details: RunDetails) -> Iterator[str]:
    """The lines about the runs before and after this one, where it is a retry or was retried."""
    if details.retry_of is not None:
        yield f"retry of: {details.retry_of}"
    if details.retried_as is not None:
        yield f"retried as: {details.retried_as}"


def changes(before: RunDetails | None, after: RunDetails) -> Iterator[str]:
    """One line for everything that moved between two looks at a run; without a look before: for everything."""
    known = {step.step_slug: step for step in before.steps} if before else {}
    for step in after.steps:
        previous = known.get(step.step_slug)
        if previous is None or (previous.status, progress(previous)) != (step.status, progress(step)):
            yield step_line(step)
    if before is None or before.run.status is not after.run.status:
        yield run_line(after.run)


def step_line(step: StepState) -> str:
    """One step in one line."""
    tasks = f" {progress(step)}" if step.kind == "map" and step.initial_tasks is not None else ""
    reason = why(step)
    return f"step {step.step_slug} {step.status}{tasks}{f': {one_line(reason)}' if reason else ''}"


def why(step: StepState) -> str | None:
    """Why a step failed or was skipped: pgflow's reason, then the handler's error, or the conditions not met."""
    if step.status is StepStatus.SKIPPED and step.error:
        return f"{step.skip_reason}: {step.error}"
    reason = step.error or step.skip_reason
    unmet = step.attempts == 0 and (step.status is StepStatus.FAILED or step.skip_reason == CONDITION_UNMET)
    conditions = " ".join(Conditions(when=_text(step.when_json), unless=_text(step.unless_json)))
    return f"{reason}: {conditions}" if reason and unmet and conditions else reason


def run_line(run: Run) -> str:
    """One run in one line."""
    duration = f" in {took(run.started_at, run.ended_at)}" if run.has_ended else ""
    return f"run {run.run_id} {run.status}{duration}{f': {one_line(run.error)}' if run.error else ''}"


def cancelled_text(run: CancelledRun) -> str:
    """What a cancellation did, or has done before."""
    if not run.is_new:
        return (
            f"run {run.run_id} was cancelled before, at {stamp(run.requested_at)} by {run.actor}{_because(run.reason)}"
        )
    tasks = f"{run.queued} waiting, {run.started} at work"
    notified = ", whose handlers are notified within five seconds" if run.started else ""
    return f"run {run.run_id} is cancelled, and its open tasks have ended: {tasks}{notified}"


def _because(reason: str | None) -> str:
    return "" if reason is None else f": {one_line(reason)}"


def progress(step: StepState) -> str:
    """Tasks done, of how many, and how many of the others an ended run or a skipped step has taken along."""
    if step.initial_tasks is None:
        return NONE
    left = {"skipped": step.skipped, "cancelled": step.cancelled}
    words = ", ".join(f"{count} {status}" for status, count in left.items() if count)
    return f"{done(step)}/{step.initial_tasks}{f' ({words})' if words else ''}"


def done(step: StepState) -> int:
    """Tasks done; all of them once the step is completed."""
    return (step.initial_tasks or 0) if step.status is StepStatus.COMPLETED else step.completed


def took(start: datetime | None, end: datetime | None) -> str:
    """Time between two moments, where both are known."""
    return NONE if start is None or end is None else span((end - start).total_seconds())


def _deserves_a_line(task: TaskState) -> bool:
    return task.status in {TaskStatus.FAILED, TaskStatus.STARTED} or (task.attempts > 1) or task.error is not None


def _text(json: bytes | None) -> str | None:
    return None if json is None else json.decode()
