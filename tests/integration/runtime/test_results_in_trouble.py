"""Workers whose results cannot be written at once, or at all."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from testkit.support.waiting import until
from tests.integration.runtime.conftest import World

from flowworker.definition.flow import Flow
from flowworker.definition.outcomes import Retry
from flowworker.definition.queue import Queue
from flowworker.runtime.host import Host
from flowworker.telemetry.metrics import MetricsSubscriber


class BusyError(OSError, Retry):
    """OSError's constructor comes first, so `after` is never set."""


def shapeless(kind: Callable[..., Exception]) -> Exception:
    """Made as its first base wants it."""
    return kind("down")


@pytest.mark.parametrize("after", [None, "30"], ids=["no delay", "text"])
async def test_a_retry_out_of_shape_fails_its_attempt_and_the_worker_still_stops(world: World, after: object) -> None:
    queue = Queue("busy", max_attempts=2, base_delay=0, timeout=10)

    @queue.job
    async def work(_: int) -> None:
        error = shapeless(BusyError)
        if after is not None:
            vars(error)["after"] = after
        raise error

    await world.create(queue)
    async with asyncio.timeout(40), world.worker(queue) as worker:
        job = await world.send(queue, 1)
        ended = await world.done(queue, job)
        assert (ended["status"], ended["failures"]) == ("failed", 2)
        assert ended["error"].startswith("down")
        assert "the next attempt follows the usual backoff" in ended["error"]
        await worker.stop()


@asynccontextmanager
async def held(world: World, statement: str, *arguments: object) -> AsyncGenerator[None]:
    """An application's transaction that stays open."""
    connection = await world.database.connect()
    try:
        async with connection.transaction():
            await connection.execute(statement, *arguments)
            yield
    finally:
        await connection.close()


async def test_a_locked_run_delays_neither_its_flow_nor_the_others_of_the_process(world: World) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    flows = [Flow(name, max_attempts=1, timeout=60) for name in ("one_locked", "beside")]
    for flow in flows:

        @flow.step
        async def work(value: int) -> int:
            if value < 0:
                begun.set()
                await go_on.wait()
            return value

    queue = Queue("beside_jobs", max_attempts=1, timeout=60)

    @queue.job
    async def do(value: int) -> int:
        return value

    await world.create(*flows, queue)
    host = Host(world.database.worker_dsn, events=world.heard.stream)
    first, second = flows
    workers = [world.worker(one, host=host) for one in (*flows, queue)]
    async with workers[0], workers[1], workers[2]:
        locked = await world.start_run(first, -1)
        await begun.wait()
        async with held(world, "SELECT 1 FROM pgflow.runs WHERE run_id = $1 FOR UPDATE", locked):
            go_on.set()
            others = [await world.start_run(first, n) for n in range(118)]
            beside = [await world.start_run(second, n) for n in range(20)]
            jobs = [await world.send(queue, n) for n in range(20)]
            for run in (*others, *beside):
                assert (await world.ended(run))[0] == "completed"
            for job in jobs:
                assert (await world.done(queue, job))["status"] == "done"
            assert (await world.run(locked))[0] == "started"
        assert await world.ended(locked) == ("completed", {"work": -1})


@pytest.mark.timeout(200)
async def test_a_list_of_60000_for_a_map_is_written_whatever_the_role_s_timeout_and_holds_up_no_other(
    world: World,
) -> None:
    flow = Flow("many", max_attempts=1, timeout=120)

    @flow.step
    async def numbers(count: int) -> list[int]:
        return list(range(count))

    @flow.map(over=numbers)
    async def each(value: int) -> int:
        return value

    await world.create(flow)
    superuser = await world.superuser()
    name = world.database.name
    await superuser.execute(f"ALTER ROLE flowworker_worker IN DATABASE {name} SET statement_timeout = '800ms'")
    try:
        worker = world.worker(flow, max_concurrency=4, batch_size=4)
        async with worker:
            await world.start_run(flow, 60_000)
            small = [await world.start_run(flow, 0) for _ in range(10)]  # no task of theirs stands behind the 60,000
            for run in small:
                await world.ended(run, patience=60)
            written = (
                "SELECT 1 FROM pgflow.step_tasks WHERE step_slug = 'numbers' AND jsonb_array_length(output) = 60000"
            )
            await until(lambda: world.owner.fetchval(written), "the huge result is written", patience=120)
            await worker.stop(immediately=True)
    finally:
        await superuser.close()


REPLAY = """
    INSERT INTO pgmq.q_replayed (msg_id, enqueued_at, vt, message, headers) OVERRIDING SYSTEM VALUE
    SELECT msg_id, enqueued_at, now(), message, headers FROM pgmq.a_replayed
"""


async def test_an_attempt_of_which_the_database_takes_no_outcome_is_counted(world: World) -> None:
    """Of a job that was copied back from its archive, under the number that is still taken there."""
    queue = Queue("replayed", max_attempts=1, timeout=20)

    @queue.job
    async def work(value: int) -> int:
        return value

    await world.create(queue)
    registry = CollectorRegistry()
    world.heard.stream.subscribe(MetricsSubscriber(registry))
    job = {"source": "queue", "slug": "replayed", "step": "replayed"}

    async def refused() -> float | None:
        return registry.get_sample_value("flowworker_results_refused_total", job)

    async with asyncio.timeout(40), world.worker(queue):
        await world.done(queue, await world.send(queue, 1))
        assert await refused() == 0
        await world.owner.execute(REPLAY)
        assert await until(refused, "the replayed task is refused") == 1
        await world.done(queue, await world.send(queue, 2))
    assert await refused() == 1
    assert registry.get_sample_value("flowworker_tasks_completed_total", job) == 2
