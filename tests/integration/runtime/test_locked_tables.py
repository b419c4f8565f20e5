"""A table that is locked for a moment, as by a migration: what needs it waits, and nothing ends or fails for it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from testkit.support.waiting import until
from tests.integration.runtime.conftest import World

from flowworker.definition.context import TaskContext
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.runtime.heartbeat.liveness import DEATH_AFTER
from flowworker.runtime.host import Host
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.telemetry.events import TaskFailed, TaskStarted

LONGER_THAN_ANY_LIMIT = 4.0
"""Seconds; a statement of a worker waits at most two for a lock."""

STOPS_WITHIN = 10.0
"""Seconds."""


WATCHED = """
CREATE TABLE public.claimed_on (application text);
CREATE FUNCTION public.note_claim() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$ BEGIN INSERT INTO public.claimed_on VALUES (current_setting('application_name')); RETURN NULL; END $$;
CREATE TRIGGER note_claim AFTER UPDATE ON pgmq.q_brisk FOR EACH ROW EXECUTE FUNCTION public.note_claim();
"""
"""Notes on which connection a job of the queue `brisk` was claimed."""
CLAIMED_ON = "SELECT DISTINCT application FROM public.claimed_on"


@asynccontextmanager
async def locked(world: World, table: str) -> AsyncGenerator[None]:
    """A migration that has a table for itself."""
    superuser = await world.superuser()
    try:
        async with superuser.transaction():
            await superuser.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await superuser.close()


def make_flow() -> Flow:
    flow = Flow("patient", max_attempts=1)

    @flow.step
    async def only(number: int) -> int:
        return number + 1

    return flow


@pytest.mark.parametrize(
    "table",
    ["pgflow.workers", "pgflow.flows", "pgflow.step_tasks", "pgmq.meta", "flowworker.workers", "flowworker.drains"],
)
async def test_a_worker_that_starts_waits_for_a_locked_table(world: World, table: str) -> None:
    flow = make_flow()
    await world.create(flow)
    worker = world.worker(flow)
    async with locked(world, table):
        starting = asyncio.create_task(worker.start())
        await asyncio.wait({starting}, timeout=LONGER_THAN_ANY_LIMIT)
        assert not starting.done() or starting.exception() is None
    await starting
    run = await world.start_run(flow, 1)
    assert await world.ended(run) == ("completed", {"only": 2})
    await worker.stop()


async def test_a_handler_that_asks_for_the_run_s_input_waits_for_a_locked_table(world: World) -> None:
    flow, go = Flow("curious", max_attempts=1), asyncio.Event()

    @flow.step
    async def first(number: int) -> list[int]:
        return [number]

    @flow.map(over=first)
    async def second(number: int, ctx: TaskContext) -> int:
        await go.wait()
        return number + await ctx.flow_input()

    await world.create(flow)
    async with world.worker(flow) as worker:
        run = await world.start_run(flow, 20)
        await until(lambda: len(world.heard.of(TaskStarted)) == 2, "two tasks run")
        async with locked(world, "pgflow.runs"):
            go.set()
            await asyncio.wait({asyncio.ensure_future(worker.wait())}, timeout=LONGER_THAN_ANY_LIMIT)
            assert world.heard.of(TaskFailed) == []
        assert await world.ended(run) == ("completed", {"second": [40]})


async def test_a_worker_that_cannot_find_out_whether_inserts_are_announced_goes_on(world: World) -> None:
    queue, go = Queue("loud"), asyncio.Event()

    @queue.job
    async def work(number: int) -> int:
        await go.wait()
        return number

    await world.create(queue)
    async with world.worker(queue) as worker:
        job = await world.send(queue, 1)
        await until(lambda: world.heard.of(TaskStarted), "the job runs")
        superuser = await world.superuser()
        async with locked(world, "pgmq.notify_insert_throttle"):
            ended = await superuser.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'flowworker pulse' AND datname = current_database()"
            )
            assert ended == 1
            await asyncio.wait({asyncio.ensure_future(worker.wait())}, timeout=LONGER_THAN_ANY_LIMIT + 3)
            assert worker.lifecycle is Lifecycle.RUNNING
        await superuser.close()
        go.set()
        assert (await world.done(queue, job))["status"] == "done"
        assert len(world.heard.of(TaskStarted)) == 1


async def test_a_worker_beats_while_pgflow_s_table_of_workers_is_locked(world: World) -> None:
    flow = make_flow()
    await world.create(flow)
    async with world.worker(flow) as worker, locked(world, "pgflow.workers"):
        seen = (await world.worker_row(worker.worker_id))["reported_at"]

        async def beaten() -> bool:
            return (await world.worker_row(worker.worker_id))["reported_at"] > seen

        await until(beaten, "the next heartbeat is reported", patience=DEATH_AFTER)


async def test_a_queue_claims_aside_while_the_claim_of_another_waits(world: World) -> None:
    stuck, brisk = Queue("stuck"), Queue("brisk")
    for queue in (stuck, brisk):

        @queue.job
        async def work(number: int) -> int:
            return number

    await world.create(stuck, brisk)
    await world.owner.execute(WATCHED)
    host = Host(world.database.worker_dsn)
    async with world.worker(stuck, host=host), world.worker(brisk, host=host):
        waiting = await world.send(stuck, 1)
        async with locked(world, "pgmq.q_stuck"):

            async def claimed_aside() -> bool:
                await world.send(brisk, 2)
                return "flowworker aside" in {row["application"] for row in await world.owner.fetch(CLAIMED_ON)}

            await until(claimed_aside, "a claim on the other connection")
        assert (await world.done(stuck, waiting))["status"] == "done"


LOCK_ROW = "SELECT FROM flowworker.workers WHERE worker_id = $1 FOR UPDATE"
WORK_ROLE_MAY_NOT = "REVOKE UPDATE ON flowworker.workers FROM flowworker_worker"
WORK_ROLE_MAY = "GRANT UPDATE ON flowworker.workers TO flowworker_worker"


@asynccontextmanager
async def unwritable(world: World, worker_id: UUID, reason: str) -> AsyncGenerator[None]:
    """A worker's row that cannot be written."""
    if reason == "no right":
        await world.owner.execute(WORK_ROLE_MAY_NOT)
        yield
        await world.owner.execute(WORK_ROLE_MAY)
        return
    superuser = await world.superuser()
    try:
        async with superuser.transaction():
            await superuser.execute(LOCK_ROW, worker_id)
            yield
    finally:
        await superuser.close()


@pytest.mark.parametrize("reason", ["row locked", "no right"])
async def test_a_stop_that_cannot_be_written_is_a_stop_and_peers_write_it_later(
    world: World, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    flow, begun = Flow("stopped", max_attempts=1), asyncio.Event()

    @flow.step
    async def only(number: int) -> int:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return number + 1

    await world.create(flow)
    worker = world.worker(flow, drain_timeout=0)
    await worker.start()
    run = await world.start_run(flow, 1)
    await begun.wait()
    async with unwritable(world, worker.worker_id, reason):
        async with asyncio.timeout(STOPS_WITHIN):
            await worker.stop()
        assert worker.lifecycle is Lifecycle.STOPPED
        assert f"could not mark worker {worker.worker_id} as stopped, its peers will" in caplog.text
        assert (await world.task(run, "only"))["status"] == "queued"
    assert (await world.worker_row(worker.worker_id))["state"] not in {"stopped", "lost"}
    async with world.worker(flow):
        assert await world.ended(run) == ("completed", {"only": 2})

        async def found_gone() -> bool:
            return (await world.worker_row(worker.worker_id))["state"] == "lost"

        await until(found_gone, "the worker is marked lost", patience=40)
