"""Claims that meet the failure of a run, on cores that end its other tasks: they take turns instead of deadlocking."""

import asyncio
import random
from collections.abc import Callable

import pytest
from tests.bench.failing_runs import TASKS, WORKERS, brittle, deadlocks, one_in_ten, work
from tests.conftest import Database
from tests.integration.sources.world import World, a_world, completed

from flowworker.database.capabilities import detect
from flowworker.database.compile import ensure_compiled
from flowworker.database.records import ClaimedTask, Outcome
from flowworker.definition.flow import Flow

RUNS = 20

guarded = Flow("guarded", max_attempts=1, base_delay=0, timeout=60)


@guarded.step
async def admission(value: list[int]) -> dict[str, bool]:
    return {"open": False}


@guarded.step(when={"admission": {"open": True}}, when_unmet="fail")
async def behind(admission: dict[str, bool]) -> int:
    return len(admission)


@guarded.map
async def beside(value: int) -> int:
    return value


async def deadlocks_for_1000_tasks(
    world: World, flow: Flow, handler: Callable[[random.Random], Callable[[ClaimedTask], Outcome]]
) -> float:
    await ensure_compiled(world.owner, flow, await detect(world.owner))
    sources = [await world.source(flow) for _ in range(WORKERS)]
    for _ in range(RUNS):
        await world.start(flow.slug, list(range(TASKS)))
    done = await asyncio.gather(*(work(source, handler(random.Random(n))) for n, source in enumerate(sources)))
    assert await world.owner.fetchval("SELECT count(*) FROM pgflow.runs WHERE status = 'started'") == 0
    return 1000 * await deadlocks(world) / sum(done)


@pytest.mark.parametrize("catalogue", ["0.8", "0.14", "0.15", "0.17"], indirect=True)
async def test_failing_runs_and_claims_do_not_deadlock(catalogue: Database) -> None:
    async with a_world(catalogue) as world:
        assert await deadlocks_for_1000_tasks(world, brittle, one_in_ten) <= 1


@pytest.mark.parametrize("catalogue", ["0.14", "0.15", "0.17"], indirect=True)
async def test_runs_that_fail_by_a_condition_and_claims_do_not_deadlock(catalogue: Database) -> None:
    async with a_world(catalogue) as world:
        assert await deadlocks_for_1000_tasks(world, guarded, lambda _: lambda _: completed({"open": False})) <= 1
