"""Readiness of a worker whose database does not take its claims or its results."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from testkit.support.waiting import until
from tests.integration.runtime.conftest import World

from flowworker.cli import probing
from flowworker.cli.probing import UNCLAIMED_LIMIT, UNWRITTEN_LIMIT, gauges, readiness
from flowworker.definition.flow import Flow
from flowworker.probes import Health
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.runtime.state import WorkerState
from flowworker.telemetry.metrics import MetricsSubscriber

WELL = Health(ok=True, reason="1 started and registered")


def make_flow(slug: str) -> tuple[Flow, asyncio.Event]:
    flow, release = Flow(slug, max_attempts=1, timeout=60), asyncio.Event()

    @flow.step
    async def wait(_: int) -> str:
        await release.wait()
        return "done"

    return flow, release


@pytest.fixture
async def state(world: World) -> WorkerState:
    """A worker that is well."""
    flow, _ = make_flow("well")
    await world.create(flow)
    async with world.worker(flow) as worker:
        await until(lambda: worker.state().unclaimed_for is not None, "the age of the last claim is known")
        return worker.state()


async def test_a_worker_is_not_ready_while_old_results_cannot_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "UNWRITTEN_LIMIT", 0.5)
    flow, release = make_flow("unwritten")
    await world.create(flow)
    async with world.worker(flow, max_concurrency=1) as worker:
        run = await world.start_run(flow, 1)
        await until(lambda: worker.state().active_tasks, "the task runs")
        blocker = await world.database.connect()
        async with blocker.transaction():
            await blocker.execute("LOCK pgflow.step_tasks IN ACCESS EXCLUSIVE MODE")
            release.set()
            await until(
                lambda: "has not been written" in readiness([worker.state()], 1).reason, "the worker is not ready"
            )
            assert not readiness([worker.state()], 1).ok
            row = await until(lambda: _reported(world, worker.worker_id), "its report says so")
            assert row > 0
        assert await world.ended(run) == ("completed", {"wait": "done"})
        await until(lambda: readiness([worker.state()], 1) == WELL, "the worker is ready again")
        await blocker.close()


async def test_a_worker_is_not_ready_while_it_claims_in_vain(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "UNCLAIMED_LIMIT", 0.5)
    flow, _ = make_flow("unclaimed")
    await world.create(flow)
    async with world.worker(flow) as worker:
        blocker = await world.database.connect()
        async with blocker.transaction():
            await blocker.execute("LOCK pgmq.q_unclaimed IN ACCESS EXCLUSIVE MODE")
            await until(
                lambda: "has claimed in vain" in readiness([worker.state()], 1).reason, "the worker is not ready"
            )
            await until(lambda: reported(world), "its report says so")
        await until(lambda: readiness([worker.state()], 1) == WELL, "the worker is ready again")
        await until(lambda: reported(world, waits=False), "its report says so")
        await blocker.close()


async def reported(world: World, *, waits: bool = True) -> bool:
    """Whether the row says that claims wait, or that they do not."""
    age: float | None = await world.owner.fetchval("SELECT unclaimed_for FROM flowworker.workers")
    return (age is not None) is waits


async def test_only_a_claim_that_is_wanted_is_missed(state: WorkerState) -> None:
    late = replace(state, wanting_for=UNCLAIMED_LIMIT + 1)
    assert not readiness([late], 1).ok
    assert readiness([replace(late, free_slots=0)], 1).ok
    assert readiness([replace(late, lifecycle=Lifecycle.DRAINING)], 1).ok
    assert readiness([replace(state, wanting_for=None, unclaimed_for=3600.0)], 1).ok  # it sleeps until there is work


async def test_a_draining_worker_that_cannot_write_is_not_ready(state: WorkerState) -> None:
    draining = replace(state, lifecycle=Lifecycle.DRAINING, unwritten_for=UNWRITTEN_LIMIT + 1)
    assert readiness([draining], 1) == Health(
        ok=False, reason=f"{state.worker_name} holds a result that has not been written for 61 s"
    )


async def test_metrics_show_what_is_unwritten_unclaimed_and_in_doubt(state: WorkerState) -> None:
    registry = CollectorRegistry()
    ill = replace(state, unwritten_for=7.0, unclaimed_for=8.0, doubts=9)
    MetricsSubscriber(registry, lambda: [gauges(ill), gauges(replace(ill, unwritten_for=None, doubts=1))])
    work = {"source": "flow", "slug": "well"}
    assert registry.get_sample_value("flowworker_unwritten_age_seconds", work) == 7.0
    assert registry.get_sample_value("flowworker_claim_age_seconds", work) == 8.0
    assert registry.get_sample_value("flowworker_doubts", work) == 10


async def _reported(world: World, worker_id: object) -> float | None:
    return await world.owner.fetchval("SELECT unwritten_for FROM flowworker.workers WHERE worker_id = $1", worker_id)
