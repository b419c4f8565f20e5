"""The notify strategy on a real database."""

import asyncio
from typing import Any

from testkit.support.waiting import until
from tests.integration.runtime.conftest import World

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.telemetry.events import PollStopped

SLOW: dict[str, Any] = {"min_poll_interval": 300.0, "max_poll_interval": 300.0, "notify_fallback_interval": 300.0}
"""So slow that only a notification or a timer for a due message can be what woke a worker."""


def make_flow(**options: Any) -> Flow:
    flow = Flow("notified", **{"max_attempts": 3, "base_delay": 1, "timeout": 10, **options})

    @flow.step
    async def first(number: int) -> int:
        return number + 1

    @flow.step
    async def second(first: int) -> int:
        return first + 1

    return flow


async def enable(world: World, name: str) -> None:
    await world.owner.execute("SELECT pgmq.enable_notify_insert($1)", name)


async def listening(worker: Any) -> None:
    await until(lambda: worker.state().signal.listening, "the worker listens")


async def test_an_insert_wakes_the_worker_and_a_chain_runs_through(world: World) -> None:
    flow = make_flow()
    await world.create(flow)
    await enable(world, "notified")
    async with world.worker(flow, signal_strategy="notify", **SLOW) as worker:
        await listening(worker)
        assert worker.state().signal.degraded is None
        run = await world.start_run(flow, 1)
        assert await world.ended(run) == ("completed", {"second": 3})


async def test_a_backlog_is_drained_without_waiting_for_the_fallback(world: World) -> None:
    flow = make_flow()
    await world.create(flow)
    await enable(world, "notified")
    async with world.worker(flow, signal_strategy="notify", batch_size=3, max_concurrency=3, **SLOW) as worker:
        await listening(worker)
        runs = [await world.start_run(flow, number) for number in range(30)]
        for run in runs:
            assert (await world.ended(run))[0] == "completed"


async def test_retries_and_delayed_steps_start_when_they_are_due(world: World) -> None:
    attempts: list[float] = []
    flow = Flow("due", max_attempts=3, base_delay=1, timeout=10)

    @flow.step(start_delay=1)
    async def fussy(_: int) -> int:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) < 2:
            raise ValueError("not yet")
        return len(attempts)

    await world.create(flow)
    await enable(world, "due")
    async with world.worker(flow, signal_strategy="notify", **SLOW) as worker:
        await listening(worker)
        run = await world.start_run(flow, 1)
        assert await world.ended(run) == ("completed", {"fussy": 2})
    assert 1.5 < attempts[1] - attempts[0] < 6


async def test_without_the_trigger_it_polls_and_names_the_command(world: World) -> None:
    flow = make_flow()
    await world.create(flow)
    async with world.worker(flow, signal_strategy="notify") as worker:
        await until(lambda: worker.state().signal.degraded, "the worker polls instead of listening")
        signal = worker.state().signal
        assert not signal.listening
        assert "SELECT pgmq.enable_notify_insert('notified')" in (signal.degraded or "")
        assert (await world.ended(await world.start_run(flow, 1)))[0] == "completed"


async def test_capitals_in_the_name_mean_polling(world: World) -> None:
    flow = Flow("Capital", timeout=10)

    @flow.step
    async def only(_: int) -> None: ...

    await world.create(flow)
    async with world.worker(flow, signal_strategy="notify") as worker:
        await until(lambda: worker.state().signal.degraded, "the worker polls instead of listening")
        assert "capitals" in (worker.state().signal.degraded or "")
        assert (await world.ended(await world.start_run(flow, 1)))[0] == "completed"


async def test_stopping_leaves_the_trigger_for_others(world: World) -> None:
    flow = make_flow()
    await world.create(flow)
    await enable(world, "notified")
    async with world.worker(flow, signal_strategy="notify", **SLOW) as staying:
        await listening(staying)
        async with world.worker(flow, signal_strategy="notify", worker_name="leaving", **SLOW) as leaving:
            await listening(leaving)
        assert (await world.ended(await world.start_run(flow, 1)))[0] == "completed"


async def test_after_its_connection_broke_it_listens_again(world: World) -> None:
    flow = make_flow()
    await world.create(flow)
    await enable(world, "notified")
    admin = await world.superuser()
    try:
        async with world.worker(flow, signal_strategy="notify", **SLOW) as worker:
            await listening(worker)
            before = len(world.heard.of(PollStopped))
            killed = await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = $1 AND application_name = 'flowworker pulse'",
                world.database.name,
            )
            assert killed == 1
            await until(lambda: len(world.heard.of(PollStopped)) > before, "the poll on the killed connection ends")
            await listening(worker)
            assert (await world.ended(await world.start_run(flow, 1)))[0] == "completed"
    finally:
        await admin.close()


async def test_a_queue_listens_where_it_can_and_has_its_fallback_where_it_cannot(world: World) -> None:
    queue = Queue("woken", timeout=10)

    @queue.job
    async def work(_: int) -> None: ...

    await world.create(queue)
    async with world.worker(queue, min_poll_interval=1.0, max_poll_interval=1.0) as worker:
        assert worker.state().signal.degraded is None
        await world.done(queue, await world.send(queue, 1))
    await enable(world, "woken")
    async with world.worker(queue, min_poll_interval=25.0, max_poll_interval=25.0) as worker:
        await listening(worker)
        job = await world.send(queue, 1)
        async with asyncio.timeout(5):
            await world.done(queue, job)
