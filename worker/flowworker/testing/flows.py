"""Runs a whole flow without a database, and without waiting."""

from typing import Any
from uuid import uuid4

from flowworker.definition.flow import Flow
from flowworker.testing.blocking import run_blocking
from flowworker.testing.engine import Engine, VirtualClock
from flowworker.testing.memory_runs import State
from flowworker.testing.memory_source import MemoryStore, memory_source
from flowworker.testing.results import FlowResult, virtual


def run_flow(flow: Flow, input: Any, *, timeout: float | None = None, max_concurrency: int = 10) -> FlowResult:  # noqa: A002 - pgflow's word
    """Run a flow once, in memory: pgflow's rules, the worker's executor, virtual time between attempts.

    Backoffs, `Retry(after=…)` and start delays take no real time; `FlowResult.attempts` says when each attempt
    started. Handlers run for real, also in threads and child processes, and so do their timeouts.

    Args:
        flow: the flow.
        input: the run's input, checked by the types of the flow.
        timeout: seconds of real time for every attempt, in place of the flow's and its steps'.
        max_concurrency: handlers at once.

    Returns:
        The run as it ended, well or badly: a failing handler raises nothing here.

    Raises:
        InputError: the flow does not take this input.
        OutputError: the input cannot be written as JSON.
        InternalError: threads that ignore their timeout have taken every slot.
        UsageError: an event loop is running: use `run_flow_async`.
    """
    work = run_flow_async(flow, input, timeout=timeout, max_concurrency=max_concurrency)
    return run_blocking(work, "run_flow")


async def run_flow_async(
    flow: Flow,
    input: Any,  # noqa: A002 - pgflow's word
    *,
    timeout: float | None = None,
    max_concurrency: int = 10,
) -> FlowResult:
    """Do what `run_flow` does, in a test that is a coroutine."""
    clock = VirtualClock()
    store = MemoryStore(clock)
    source = memory_source(flow, store, uuid4())
    run_id = store.start(flow.slug, flow.encode_input(input))
    engine = Engine(flow, source, clock, max_concurrency=max_concurrency, timeout=timeout)
    attempts = await engine.run()
    run = store.run(run_id)
    return FlowResult(
        status=run.status,
        output=run.output,
        error=run.error,
        steps={slug: step.output for slug, step in run.steps.items() if step.status is State.COMPLETED},
        skipped={slug: str(step.skip_reason) for slug, step in run.steps.items() if step.status is State.SKIPPED},
        attempts=attempts,
        elapsed=virtual(clock()),
    )
