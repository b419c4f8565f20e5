"""Handlers whose run or job is cancelled learn it with their worker's next heartbeat."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from testkit.support.waiting import until
from tests.integration.runtime.conftest import World

from flowworker.client import Client
from flowworker.definition.context import TaskContext
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.runtime.heartbeat.extender import BEAT_INTERVAL, LOOKED_AT_AFTER
from flowworker.telemetry.events import TaskFailed, TaskStopped, TaskSuperseded

NOTIFIED_WITHIN = 5.0
"""Seconds."""


@pytest.fixture
async def admin(world: World) -> AsyncIterator[Client]:
    async with Client(world.database.admin_dsn) as client:
        yield client


def test_the_next_heartbeat_but_one_is_soon_enough() -> None:
    """A task that is too young at a heartbeat is looked at by the next one."""
    assert LOOKED_AT_AFTER + BEAT_INTERVAL < NOTIFIED_WITHIN


async def test_handlers_of_a_cancelled_run_are_notified_and_their_results_superseded(
    world: World, admin: Client
) -> None:
    begun, notified = list[str](), dict[str, float]()
    let_go = asyncio.Event()
    flow = Flow("two_ways", max_attempts=3, timeout=60)

    @flow.step
    async def coroutine(_: int) -> None:
        begun.append("coroutine")
        try:
            await asyncio.Event().wait()
        finally:
            notified["coroutine"] = time.monotonic()

    @flow.step
    async def stubborn(_: int, ctx: TaskContext) -> str:
        begun.append("stubborn")
        while True:
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                notified["stubborn"] = time.monotonic()
                assert ctx.cancelled.is_set()
                continue
            return "too late"

    await world.create(flow)
    async with world.worker(flow):
        run = await world.start_run(flow, 1)
        await until(lambda: len(begun) == 2, "both handlers run")
        await admin.cancel_run(run, reason="no more", actor="ada")
        cancelled_at = time.monotonic()
        await until(lambda: len(notified) == 2, "both handlers are notified")
        assert max(notified.values()) - cancelled_at < NOTIFIED_WITHIN
        let_go.set()
        await until(lambda: len(world.heard.of(TaskSuperseded)) == 2, "both results are superseded")
    assert world.heard.of(TaskFailed) == world.heard.of(TaskStopped) == []
    assert (await world.run(run))[0] == "failed"
    assert (await world.task(run, "stubborn"))["error_message"] == "cancelled by ada: no more"
    assert (await world.task(run, "stubborn"))["output"] is None


async def test_a_result_that_comes_before_the_next_heartbeat_is_superseded_too(world: World, admin: Client) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()
    flow = Flow("quick", max_attempts=1, timeout=60)

    @flow.step
    async def wait(_: int) -> str:
        begun.set()
        await let_go.wait()
        return "too late"

    @flow.step
    async def fail(_: int) -> None:
        await let_go.wait()
        raise ValueError("too late")

    await world.create(flow)
    async with world.worker(flow):
        run = await world.start_run(flow, 1)
        await begun.wait()
        await admin.cancel_run(run, actor="ada")
        let_go.set()
        await until(lambda: len(world.heard.of(TaskSuperseded)) == 2, "both results are superseded")
    assert world.heard.of(TaskFailed) == world.heard.of(TaskStopped) == []
    assert (await world.task(run, "fail"))["error_message"] == "cancelled by ada"


async def test_the_handler_of_a_cancelled_job_is_notified_and_its_result_superseded(
    world: World, admin: Client
) -> None:
    begun, notified = asyncio.Event(), asyncio.Event()
    mail = Queue("mail", max_attempts=3, timeout=60)

    @mail.job
    async def send(_: dict[str, str]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            notified.set()

    await world.create(mail)
    async with world.worker(mail):
        job = await world.send(mail, {"to": "ada"})
        await begun.wait()
        await admin.cancel_job(mail, job, actor="ada")
        async with asyncio.timeout(NOTIFIED_WITHIN):
            await notified.wait()
        await until(lambda: world.heard.of(TaskSuperseded), "the result is superseded")
        again = await world.send(mail, {"to": "bob"})
        await until(lambda: admin_sees_running(admin, again), "the worker goes on with the next job")
        await admin.cancel_job(mail, again)
    ours = await world.archived(mail, job)
    assert ours is not None
    assert (ours["status"], ours["error"], ours["attempt"]) == ("cancelled", "cancelled by ada", 1)


async def admin_sees_running(admin: Client, job: int) -> bool:
    return (await admin.job("mail", job)).state == "running"


async def test_the_run_of_a_map_of_a_thousand_tasks_is_cancelled_in_one_go(world: World, admin: Client) -> None:
    flow = Flow("wide", max_attempts=3, timeout=60)

    @flow.map
    async def each(_: int) -> None: ...

    await world.create(flow)
    run: UUID = await world.start_run(flow, list(range(1000)))
    cancelled = await admin.cancel_run(run)
    assert (cancelled.queued, cancelled.started) == (1000, 0)
    assert await world.owner.fetchval("SELECT count(*) FROM pgmq.a_wide") == 1000
    assert (
        await world.owner.fetchval("SELECT count(DISTINCT status) FROM pgflow.step_tasks WHERE status = 'failed'") == 1
    )
