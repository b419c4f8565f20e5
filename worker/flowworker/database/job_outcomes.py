"""What becomes of a job after an outcome, and what an earlier, unanswered write has made of it: pure."""

from typing import TypeAlias, assert_never
from uuid import UUID

import orjson

from flowworker.database.flow_results import storable_text
from flowworker.database.headers import count_of, our_headers
from flowworker.database.leases import parked_for
from flowworker.database.queue_jobs import Ending, JobFence, JobNow, PutBack
from flowworker.database.records import ClaimedTask, Completed, Failed, Outcome, Released, Verdict
from flowworker.definition.options import QueueOptions

LONGEST_BACKOFF = 30 * 86_400.0
"""Seconds; doubling reaches it after some twenty attempts."""

LONGEST_TEXT = 100_000
"""Characters of an error or a stack trace that are kept."""

Plan: TypeAlias = Ending | PutBack


def backoff(options: QueueOptions, attempt: int) -> float:
    """Seconds between the failure of an attempt and the next: pgflow's formula, with a limit."""
    return min(options.base_delay * 2.0 ** min(attempt, 64), LONGEST_BACKOFF)


def plan_for(task: ClaimedTask, outcome: Outcome, options: QueueOptions, worker_id: UUID) -> Plan:
    """Decide between the archive and another attempt."""
    fence = JobFence.of(task)
    match outcome:
        case Completed(output=output):
            done = {"status": "done", "result": orjson.Fragment(output), **_trace(task, outcome, worker_id)}
            return Ending(fence=fence, ours=orjson.dumps(done))
        case Failed(final=final) if final or task.attempt >= task.max_attempts:
            return Ending(fence=fence, ours=orjson.dumps({"status": "failed", **_failure(task, outcome, worker_id)}))
        case Failed(retry_after=after):
            delay = backoff(options, task.attempt) if after is None else min(after, LONGEST_BACKOFF)
            return PutBack(fence=fence, ours=orjson.dumps(_failure(task, outcome, worker_id)), delay=delay)
        case Released(wait=wait):
            ours = our_headers(task.headers)
            releases, parks = count_of(ours, "releases") + 1, count_of(ours, "parks")
            if not wait:
                return PutBack(fence=fence, ours=orjson.dumps({"releases": releases}), delay=0.0)
            parked = {"releases": releases, "parks": parks + 1, "parked": storable_text(outcome.reason[:LONGEST_TEXT])}
            return PutBack(fence=fence, ours=orjson.dumps(parked), delay=parked_for(wait, parks))
        case _:
            assert_never(outcome)


def verdict_on(plan: Plan, outcome: Outcome) -> Verdict:
    """The verdict on a plan that passed the fence."""
    match plan, outcome:
        case _, Completed():
            return Verdict.COMPLETED
        case _, Released():
            return Verdict.RELEASED
        case Ending(), Failed():
            return Verdict.FAILED
        case PutBack(), Failed():
            return Verdict.RETRYING
        case _:
            assert_never(plan)


def is_still_ours(plan: Plan, row: JobNow | None) -> bool:
    """Whether a job that a write left out is waiting for its result: it was locked."""
    return row is not None and not row.archived and row.read_count == plan.fence.read_count


def verdict_of_row(plan: Plan, outcome: Outcome, row: JobNow | None, worker_id: UUID) -> Verdict:
    """The verdict on a plan that the fence kept out: our own write if its traces are there, else superseded."""
    if row is None or row.read_count != plan.fence.read_count or not row.archived:
        return Verdict.SUPERSEDED
    ours = our_headers(row.headers)
    expected = "done" if isinstance(outcome, Completed) else "failed"
    written = isinstance(plan, Ending) and ours.get("worker_id") == str(worker_id) and ours.get("status") == expected
    return verdict_on(plan, outcome) if written else Verdict.SUPERSEDED


def _failure(task: ClaimedTask, outcome: Failed, worker_id: UUID) -> dict[str, object]:
    return {
        "error": storable_text(outcome.message[:LONGEST_TEXT]),
        "stacktrace": None if outcome.stacktrace is None else storable_text(outcome.stacktrace[-LONGEST_TEXT:]),
        "failures": task.attempt,
        **_trace(task, outcome, worker_id),
    }


def _trace(task: ClaimedTask, outcome: Completed | Failed, worker_id: UUID) -> dict[str, object]:
    return {
        "attempt": task.attempt,
        "duration_ms": round(outcome.duration * 1000, 3),
        "worker_id": worker_id,
    }
