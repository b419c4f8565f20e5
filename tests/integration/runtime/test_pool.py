"""Several workers in one process."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testkit.support.waiting import until
from tests.integration.runtime.conftest import World

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.errors import ExitCode, InternalError, UnknownFlowError, UsageError
from flowworker.redaction import show_payloads
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.runtime.pool import Restart, WorkerPool
from flowworker.telemetry.events import TaskStarted, WorkerStarted

jobs = Queue("jobs", max_attempts=1, timeout=10)


@jobs.job
async def work(number: int) -> int:
    await asyncio.sleep(0.05)
    return number


flow = Flow("pooled", max_attempts=1, timeout=10)


@flow.step
async def double(number: int) -> int:
    return 2 * number


def make_pool(world: World, workloads: Any, **options: Any) -> WorkerPool:
    quick: dict[str, Any] = {"min_poll_interval": 0.05, "max_poll_interval": 0.1, "events": world.heard.stream}
    return WorkerPool(workloads, dsn=world.database.worker_dsn, **{**quick, **options})


async def test_workers_of_a_pool_are_numbered_and_named_after_it(world: World) -> None:
    await world.create(jobs)
    async with make_pool(world, jobs, name="mailers", size=3, max_concurrency=1) as pool:
        ids = [await world.send(jobs, number) for number in range(12)]
        results = [(await world.done(jobs, job))["result"] for job in ids]
        names = [worker.worker_name for worker in pool.workers]
    assert results == list(range(12))
    assert names == ["mailers_Worker_1", "mailers_Worker_2", "mailers_Worker_3"]
    assert {event.worker.worker_name for event in world.heard.of(TaskStarted)} == set(names)


async def test_flows_and_queues_share_at_most_five_connections(world: World) -> None:
    await world.create(jobs, flow)
    async with make_pool(world, [flow, jobs]):
        run = await world.start_run(flow, 4)
        job = await world.send(jobs, 1)
        assert await world.ended(run) == ("completed", {"double": 8})
        assert (await world.done(jobs, job))["result"] == 1
        count = await world.owner.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE $1",
            "flowworker %",
        )
    assert 4 <= count <= 5


@pytest.fixture
def discreet() -> Iterator[None]:
    """The process, which quotes payloads from the first pool on that asks for it, forgets that again."""
    yield
    show_payloads(False)


@pytest.mark.usefixtures("discreet")
async def test_a_pool_quotes_payloads_only_where_it_is_asked_to(world: World) -> None:
    await world.create(jobs)

    async def error(**options: bool) -> str:
        async with make_pool(world, jobs, **options):
            return (await world.done(jobs, await world.send(jobs, "a-private-word")))["error"]

    assert "a-private-word" not in await error()
    assert "a-private-word" in await error(log_payloads=True)


async def test_a_second_pool_of_the_same_name_is_refused(world: World) -> None:
    await world.create(jobs)
    async with make_pool(world, jobs, name="unique"):
        with pytest.raises(UsageError, match="'unique' is in use"):
            await make_pool(world, jobs, name="unique").start()
    async with make_pool(world, jobs, name="unique"):
        pass


async def test_a_crashed_worker_is_started_again_with_a_new_id(world: World) -> None:
    await world.create(jobs)
    async with make_pool(world, jobs, restart=Restart(base=0.01)) as pool:
        first = pool.workers[0]
        crash(first)(RuntimeError("a bug"))
        await until(
            lambda: pool.workers[0] is not first and pool.workers[0].lifecycle is Lifecycle.RUNNING,
            "another worker runs in its place",
        )
        job = await world.send(jobs, 3)
        assert (await world.done(jobs, job))["result"] == 3
        assert pool.workers[0].worker_id != first.worker_id
    assert len(world.heard.of(WorkerStarted)) == 2


async def test_a_pool_gives_up_after_the_restarts_it_was_given(world: World) -> None:
    await world.create(jobs)
    pool = make_pool(world, jobs, restart=Restart(attempts=0))
    await pool.start()
    crash(pool.workers[0])(RuntimeError("a bug"))
    async with asyncio.timeout(15):
        end = await pool.wait()
    assert (end.code, end.reason) == (ExitCode.INTERNAL, "RuntimeError: a bug")


async def test_a_crash_inside_async_with_is_raised_at_its_end(world: World) -> None:
    await world.create(jobs)

    async def crash_inside() -> None:
        async with world.worker(jobs) as worker:
            crash(worker)(InternalError("broken"))
            await worker.wait()

    with pytest.raises(InternalError, match="broken"):
        await crash_inside()


async def test_a_pool_whose_flow_is_unknown_does_not_start(world: World) -> None:
    await world.create(jobs)
    pool = make_pool(world, [jobs, flow], compile="verify")
    with pytest.raises(UnknownFlowError, match="pooled"):
        await pool.start()
    assert (await pool.wait()).code is ExitCode.DATA
    assert all(worker.lifecycle is Lifecycle.STOPPED for worker in pool.workers)


async def test_a_pool_is_safe_to_stop_before_its_start_and_twice(world: World) -> None:
    await world.create(jobs)
    pool = make_pool(world, jobs)
    await pool.stop()
    await pool.start()
    await pool.stop()
    await pool.stop()
    assert (await pool.wait()).code is ExitCode.DRAINED


def test_worker_id_and_name_are_for_a_pool_of_one() -> None:
    with pytest.raises(UsageError, match="pool has several"):
        WorkerPool(jobs, dsn="postgresql://nowhere", size=2, worker_name="x")


def crash(worker: Any) -> Callable[[BaseException], None]:
    """What a loop of the worker calls when it ends by an error."""
    return worker._inner.crashed
