"""Subscribers that misbehave, and loops that end by themselves, in a worker on a real database."""

import asyncio
import logging
from typing import Any

import pytest
from tests.integration.runtime.conftest import World

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.errors import ExitCode
from flowworker.runtime.pool import WorkerPool
from flowworker.telemetry.events import Event, TaskStarted

STOP_LIMIT = 8.0
"""Seconds a stop may take beside a subscriber that never returns: the drain's three, and time for a busy machine."""

jobs = Queue("jobs", max_attempts=1, timeout=10)


@jobs.job
async def work(number: int) -> int:
    return number


def a_flow(slug: str) -> Flow:
    flow = Flow(slug, max_attempts=1, timeout=10)

    @flow.step
    async def double(number: int) -> int:
        return 2 * number

    @flow.step
    async def again(double: int) -> int:
        return 2 * double

    return flow


@pytest.mark.parametrize("kind", [asyncio.CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_whatever_a_subscriber_raises_the_results_are_written(world: World, kind: type[BaseException]) -> None:
    flow = a_flow("heard")
    await world.create(flow)

    def fails(event: Event) -> None:
        raise kind("from a subscriber")

    async def fails_later(event: Event) -> None:
        raise kind("from an asynchronous subscriber")

    async with world.worker(flow) as worker:
        worker.events.subscribe(fails)
        worker.events.subscribe(fails_later)
        assert await world.ended(await world.start_run(flow, 1)) == ("completed", {"again": 4})
        assert await world.ended(await world.start_run(flow, 2)) == ("completed", {"again": 8})
    assert (await worker.wait()).code is ExitCode.DRAINED


async def never(event: Event) -> None:
    await asyncio.Event().wait()


async def test_a_subscriber_that_never_returns_does_not_hold_up_a_stop(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.create(jobs)
    for immediately in (False, True):
        worker = world.worker(jobs)
        worker.events.subscribe(never)
        await worker.start()
        await world.done(jobs, await world.send(jobs, 1))
        async with asyncio.timeout(STOP_LIMIT):
            await worker.stop(immediately=immediately)
        assert (await world.worker_row(worker.worker_id))["state"] == "stopped"
    assert "calls of asynchronous subscribers had not ended" in caplog.text


async def test_a_subscriber_that_swallows_its_cancellation_does_not_either(world: World) -> None:
    await world.create(jobs)
    end = asyncio.Event()

    async def stubborn(event: Event) -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    worker = world.worker(jobs)
    worker.events.subscribe(stubborn)
    await worker.start()
    async with asyncio.timeout(STOP_LIMIT):
        await worker.stop(immediately=True)
    end.set()


@pytest.mark.parametrize("loop", ["poller", "completer", "rescuer"])
async def test_a_loop_of_a_worker_that_is_cancelled_ends_it_with_a_reason(
    world: World, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    await world.create(jobs)
    worker = world.worker(jobs, worker_name="watched")
    await worker.start()
    with caplog.at_level(logging.ERROR):
        task_called(f"{loop} of watched").cancel()
        async with asyncio.timeout(STOP_LIMIT):
            end = await worker.wait()
    assert (end.code, end.permanent) == (ExitCode.INTERNAL, False)
    assert end.reason == f"{loop} of watched was cancelled from outside without having been stopped"
    assert end.reason in caplog.text


async def test_a_pool_whose_keeper_is_cancelled_stops_its_workers_and_says_so(world: World) -> None:
    await world.create(jobs)
    pool = make_pool(world, size=2)
    await pool.start()
    task_called("keeper of crew_Worker_1").cancel()
    async with asyncio.timeout(STOP_LIMIT):
        end = await pool.wait()
    assert (end.code, end.reason) == (
        ExitCode.INTERNAL,
        "keeper of crew_Worker_1 ended: it was cancelled from outside",
    )
    assert [str(worker.lifecycle) for worker in pool.workers] == ["stopped", "stopped"]


async def test_a_payload_whose_validator_ends_the_process_fails_that_job_alone(world: World) -> None:
    queue = Queue("odd", max_attempts=1, timeout=10)

    class Sly:
        @classmethod
        def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
            from pydantic_core import core_schema

            return core_schema.no_info_plain_validator_function(refuse_zero)

    def refuse_zero(value: Any) -> Any:
        if value == 0:
            raise SystemExit(3)
        return value

    async def take(value: Sly) -> int:
        return 1

    queue.job(take)
    await world.create(queue)
    async with world.worker(queue):
        bad, good = await world.send(queue, 0), await world.send(queue, 1)
        assert (await world.done(queue, good))["result"] == 1
        assert "tried to end the process" in str(await world.done(queue, bad))
    assert len(world.heard.of(TaskStarted)) == 2


def make_pool(world: World, **options: Any) -> WorkerPool:
    return WorkerPool(jobs, dsn=world.database.worker_dsn, name="crew", events=world.heard.stream, **options)


def task_called(name: str) -> "asyncio.Task[Any]":
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == name]
    return task
