"""Runs jobs of a plain queue without a database, and without waiting."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import uuid4

from flowworker.database.jobs_admin import JobState
from flowworker.database.records import Verdict
from flowworker.definition.queue import Queue
from flowworker.testing.blocking import run_blocking
from flowworker.testing.engine import Engine, VirtualClock
from flowworker.testing.memory_source import MemoryStore, memory_source
from flowworker.testing.results import Attempt, JobResult


def run_queue(
    queue: Queue, payloads: Iterable[Any], *, timeout: float | None = None, max_concurrency: int = 10
) -> Sequence[JobResult]:
    """Send jobs to a queue in memory and run them to their end; the counterpart of `run_flow`.

    Args:
        queue: the queue.
        payloads: one per job, checked by the types of its handlers.
        timeout: seconds of real time for every attempt, in place of the queue's.
        max_concurrency: handlers at once.

    Returns:
        One result per payload, in the same order.

    Raises:
        InputError: no handler takes a payload.
        OutputError: a payload cannot be written as JSON.
        InternalError: threads that ignore their timeout have taken every slot.
        UsageError: an event loop is running: use `run_queue_async`.
    """
    work = run_queue_async(queue, payloads, timeout=timeout, max_concurrency=max_concurrency)
    return run_blocking(work, "run_queue")


async def run_queue_async(
    queue: Queue, payloads: Iterable[Any], *, timeout: float | None = None, max_concurrency: int = 10
) -> Sequence[JobResult]:
    """Do what `run_queue` does, in a test that is a coroutine."""
    clock = VirtualClock()
    store = MemoryStore(clock)
    source = memory_source(queue, store, uuid4())
    sent = [store.send(queue.name, queue.encode_payload(payload)) for payload in payloads]
    engine = Engine(queue, source, clock, max_concurrency=max_concurrency, timeout=timeout)
    attempts = await engine.run()
    return [_result(msg_id, [attempt for attempt in attempts if attempt.msg_id == msg_id]) for msg_id in sent]


def _result(msg_id: int, attempts: Sequence[Attempt]) -> JobResult:
    last = attempts[-1]
    done = last.verdict is Verdict.COMPLETED
    return JobResult(
        msg_id=msg_id,
        state=JobState.DONE if done else JobState.FAILED,
        result=last.output,
        error=last.error,
        attempts=attempts,
    )
