"""What `run_flow` and `run_queue` give back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowworker.database.jobs_admin import JobState
from flowworker.database.records import Completed, Failed, Receipt, Released, RunStatus, Verdict
from flowworker.definition.step import AnyStep
from flowworker.testing import memory_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of one task or job."""

    step: str
    """The step's slug, or the queue's name."""
    index: int
    """Which task of a map step; 0 for others."""
    msg_id: int
    number: int
    """1 for the first attempt."""
    started_at: float
    """Seconds since the run was started or the jobs were sent, of virtual time: waits count, handlers take none."""
    verdict: Verdict
    output: Any = None
    """What the handler returned, as JSON carries it."""
    error: str | None = None
    stacktrace: str | None = None
    retry_in: float | None = None
    """Seconds until the next attempt; None when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowResult:
    """A run that has ended."""

    status: RunStatus
    output: Any
    """Outputs of the last steps, by slug, as JSON carries them; None unless the run is completed."""
    error: str | None
    """What the failed task said, or that a condition was not met; None unless the run failed."""
    steps: Mapping[str, Any]
    """Output of every completed step, by slug; a list for a map step."""
    skipped: Mapping[str, str]
    """Why each skipped step was skipped, by slug: `condition_unmet`, `handler_failed` or `dependency_skipped`."""
    attempts: Sequence[Attempt]
    """In the order in which they started."""
    elapsed: float
    """Seconds of virtual time from the start to the end."""

    def attempts_of(self, step: AnyStep | str, index: int = 0) -> Sequence[Attempt]:
        """The attempts of one task, first to last."""
        slug = step if isinstance(step, str) else step.slug
        return tuple(attempt for attempt in self.attempts if (attempt.step, attempt.index) == (slug, index))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """A job that has ended."""

    msg_id: int
    state: JobState
    """DONE or FAILED."""
    result: Any
    """What the handler returned, as JSON carries it; None unless the job is done."""
    error: str | None
    """What the last attempt said; None unless the job failed."""
    attempts: Sequence[Attempt]


def virtual(seconds: float) -> float:
    """Virtual seconds without the dust of adding floats up, so that tests can compare them."""
    return round(seconds, 6)


def attempt_of(receipt: Receipt, started_at: float) -> Attempt:
    """What a finished attempt was, from the answer to its result."""
    task, outcome = receipt.result.task, receipt.result.outcome
    output, error, stacktrace = None, receipt.error, None
    match outcome:
        case Completed():
            output = memory_json.loads(outcome.output)
        case Failed():
            error, stacktrace = error or outcome.message, outcome.stacktrace
        case Released():
            error = error or outcome.reason
    return Attempt(
        step=task.step_slug,
        index=task.task_index,
        msg_id=task.msg_id,
        number=task.attempt,
        started_at=virtual(started_at),
        verdict=receipt.verdict,
        output=output,
        error=error,
        stacktrace=stacktrace,
        retry_in=receipt.retry_in,
    )
