"""Drain requests, deprecation, being declared dead, and what peers leave behind."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from testkit.support.waiting import until
from tests.integration.runtime.conftest import World

from flowworker.definition.context import TaskContext
from flowworker.definition.flow import Flow
from flowworker.errors import DatabaseUnavailableError, ExitCode, MissingRightsError, ShapeMismatchError
from flowworker.runtime.host import Host, Identity
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.runtime.worker import Worker
from flowworker.telemetry.events import TaskSuperseded, WorkerStarted

ASK = "INSERT INTO flowworker.drains (target, until, reason) VALUES ($1, clock_timestamp() + $2::float8 * interval '1 s', 'test')"  # noqa: E501


def make_flow(slug: str = "drained") -> tuple[Flow, asyncio.Event, asyncio.Event]:
    begun, release = asyncio.Event(), asyncio.Event()
    flow = Flow(slug, max_attempts=1, timeout=60)

    @flow.step
    async def wait(_: int) -> str:
        begun.set()
        await release.wait()
        return "done"

    return flow, begun, release


async def test_a_drained_worker_finishes_what_runs_and_ends_with_0(world: World) -> None:
    flow, begun, release = make_flow()
    await world.create(flow)
    worker = world.worker(flow)
    await worker.start()
    run = await world.start_run(flow, 1)
    await begun.wait()
    await world.owner.execute(ASK, str(worker.worker_id), 60.0)
    await until(lambda: worker.lifecycle is Lifecycle.DRAINING, "the worker drains")
    later = await world.start_run(flow, 1)
    release.set()
    async with asyncio.timeout(15):
        end = await worker.wait()
    assert (end.code, end.reason) == (ExitCode.DRAINED, "asked to drain: test")
    assert (await world.run(run))[0] == "completed"
    assert (await world.task(later, "wait"))["status"] == "queued"


async def test_a_drain_is_a_lease_and_lapses(world: World) -> None:
    flow, _, release = make_flow()
    release.set()
    await world.create(flow)
    async with world.worker(flow, when_drained="wait") as worker:
        await world.owner.execute(ASK, str(worker.worker_id), 5.0)
        await until(lambda: worker.lifecycle is Lifecycle.DRAINING, "the worker drains")
        await until(
            lambda: _reported(world, worker.worker_id, "drained"), "the drained worker is reported"
        )  # the last claim is answered by now
        assert worker.state().drained
        run = await world.start_run(flow, 1)
        assert (await world.run(run))[0] == "started"
        assert (await world.ended(run))[0] == "completed"
        assert worker.lifecycle is Lifecycle.RUNNING


async def test_a_worker_that_starts_under_a_drain_claims_nothing(world: World) -> None:
    flow, begun, _ = make_flow()
    await world.create(flow)
    await world.start_run(flow, 1)
    await world.owner.execute(ASK, "pod-1", 60.0)
    host = Host(world.database.worker_dsn, identity=Identity(pod_uid="pod-1", pod_name="site-1"))
    worker = world.worker(flow, host=host, when_drained="wait")
    await worker.start()
    assert worker.lifecycle is Lifecycle.DRAINING
    await until(lambda: _reported(world, worker.worker_id, "drained"), "the drained worker is reported")
    await worker.stop()
    assert not begun.is_set()


async def test_a_deprecated_worker_drains_and_ends_with_0(world: World) -> None:
    flow, _, _ = make_flow()
    await world.create(flow)
    worker = world.worker(flow, when_drained="wait")
    await worker.start()
    await world.owner.execute("UPDATE pgflow.workers SET deprecated_at = now()")
    async with asyncio.timeout(15):
        end = await worker.wait()
    assert (end.code, end.reason) == (ExitCode.DRAINED, "deprecated in pgflow.workers")


async def test_a_worker_that_was_declared_dead_drops_what_it_holds_and_goes_on_under_a_new_id(world: World) -> None:
    reasons: list[bool] = []
    flow = Flow("reborn", max_attempts=3, timeout=60)

    @flow.step
    async def work(_: int, ctx: TaskContext) -> int:
        if not reasons:
            try:
                await asyncio.Event().wait()
            finally:
                reasons.append(ctx.cancelled.is_set())
        return ctx.attempt

    await world.create(flow)
    async with world.worker(flow) as worker:
        before = worker.worker_id
        run = await world.start_run(flow, 1)
        await until(lambda: worker.state().active_tasks, "the task runs")
        await world.owner.execute("UPDATE flowworker.workers SET state = 'lost' WHERE worker_id = $1", before)
        assert await world.ended(run) == ("completed", {"work": 1})
        assert worker.worker_id != before
        assert reasons == [True]
        assert world.heard.of(TaskSuperseded)
    assert (await world.worker_row(before))["state"] == "lost"


async def test_the_tasks_of_a_dead_peer_run_again_uncharged(world: World) -> None:
    flow, _, release = make_flow("bereaved")
    release.set()
    await world.create(flow)
    run = await world.start_run(flow, 1)
    dead = await claimed_by_a_ghost(world, flow)
    async with world.worker(flow):
        async with asyncio.timeout(20):  # dead for certain after 10 s, plus beats
            assert (await world.ended(run))[0] == "completed"
    assert (await world.worker_row(dead))["state"] == "lost"
    assert (await world.task(run, "wait"))["attempts_count"] == 1


async def test_the_run_of_a_held_task_fails_and_its_handler_is_cancelled(world: World) -> None:
    cancelled = asyncio.Event()
    flow = Flow("siblings", max_attempts=1, timeout=60)

    @flow.step
    async def hang(_: int, ctx: TaskContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            if ctx.cancelled.is_set():
                cancelled.set()

    @flow.step
    async def fail(_: int) -> None:
        raise ValueError("sibling")

    await world.create(flow)
    async with world.worker(flow):
        run = await world.start_run(flow, 1)
        assert (await world.ended(run))[0] == "failed"
        async with asyncio.timeout(10):
            await cancelled.wait()


async def test_a_flow_that_differs_from_the_databases_is_refused(world: World) -> None:
    flow, _, _ = make_flow("shaped")
    await world.create(flow)
    other = Flow("shaped", timeout=60)

    @other.step
    async def elsewhere(_: int) -> None: ...

    worker = world.worker(other)
    with pytest.raises(ShapeMismatchError, match="elsewhere"):
        await worker.start()
    end = await worker.wait()
    assert end.code is ExitCode.DATA
    assert worker.lifecycle is Lifecycle.STOPPED
    assert world.heard.of(WorkerStarted) == []


async def test_an_unknown_flow_that_the_role_may_not_create_says_how(world: World) -> None:
    flow, _, _ = make_flow("uncompiled")
    with pytest.raises(MissingRightsError, match="flowworker flows compile"):
        await world.worker(flow).start()


async def test_no_database_within_the_start_timeout_is_69(world: World) -> None:
    flow, _, _ = make_flow()
    worker = Worker(flow, dsn="postgresql://nobody@127.0.0.1:1/none", start_timeout=0.3)
    with pytest.raises(DatabaseUnavailableError):
        await worker.start()
    assert (await worker.wait()).code is ExitCode.UNAVAILABLE


async def test_a_stop_during_the_start_ends_it(world: World) -> None:
    flow, _, _ = make_flow()
    worker = Worker(flow, dsn="postgresql://nobody@127.0.0.1:1/none", start_timeout=60)
    starting = asyncio.create_task(worker.start())
    await until(lambda: worker.lifecycle is Lifecycle.STARTING, "the worker starts")
    await worker.stop()
    await starting
    assert (await worker.wait()).code is ExitCode.DRAINED


async def _reported(world: World, worker_id: UUID, state: str) -> bool:
    return (await world.worker_row(worker_id))["state"] == state


async def claimed_by_a_ghost(world: World, flow: Flow) -> UUID:
    """Claim everything as a worker of ours that then never beats again."""
    ghost = uuid4()
    await world.owner.execute(
        "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES ($1, $2, 'ghost')", ghost, flow.slug
    )
    await world.owner.execute(
        """INSERT INTO flowworker.workers (worker_id, boot_id, kind, slug, worker_name, version, state, slots)
           VALUES ($1, $2, 'flow', $3, 'ghost', '0', 'running', 1)""",
        ghost, uuid4(), flow.slug,
    )  # fmt: skip
    rows: list[Any] = await world.owner.fetch("SELECT msg_id FROM pgmq.read($1, 600, 10)", flow.slug)
    ids = [row["msg_id"] for row in rows]
    await world.owner.execute("SELECT pgflow.start_tasks($1, $2::bigint[], $3)", flow.slug, ids, ghost)
    return ghost
