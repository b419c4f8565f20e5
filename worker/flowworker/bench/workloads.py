"""What the benchmark runs: handlers that do nothing, or return the time at which they were called."""

import time

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

noop = Flow("bench_noop", timeout=60)
stamp = Flow("bench_stamp", timeout=60)
chain = Flow("bench_chain", timeout=60)
jobs = Queue("bench_jobs", timeout=60)


@noop.step
async def nothing() -> None:
    """Do nothing."""


@stamp.step
async def arrival() -> int:
    """When the first line was reached: nanoseconds of the machine's monotonic clock."""
    return time.monotonic_ns()


@chain.step
async def first() -> int:
    """Begin."""
    return time.monotonic_ns()


@chain.step
async def second(first: int) -> int:
    """Follow."""
    return time.monotonic_ns()


@chain.step
async def third(second: int) -> int:
    """Follow."""
    return time.monotonic_ns()


@chain.step
async def fourth(third: int) -> int:
    """Follow."""
    return time.monotonic_ns()


@chain.step
async def fifth(fourth: int) -> int:
    """End."""
    return time.monotonic_ns()


@jobs.job
async def job(payload: dict[str, int]) -> None:
    """Do nothing."""
