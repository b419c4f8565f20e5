"""Claims that meet the failure of a run, on cores that end its other tasks: they take turns instead of deadlocking."""

import asyncio
import random

import pytest
from tests.conftest import Database
from tests.integration.sources.world import World, a_world, completed, failed

from flowworker.database.records import TaskResult
from flowworker.definition.flow import Flow
from flowworker.runtime.sources.flow_source import FlowSource

TASKS, RUNS, WORKERS = 150, 20, 3
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

brittle = Flow("brittle", max_attempts=1, base_delay=0, timeout=60)


@brittle.map
async def element(value: int) -> int:
    return value


async def work(source: FlowSource, chance: random.Random) -> None:
    """Claim and finish until nothing is left, failing one task in ten."""
    idle = 0
    while idle < 5:
        tasks = (await source.claim(10, ())).tasks
        idle = 0 if tasks else idle + 1
        outcomes = [failed() if chance.random() < 0.1 else completed() for _ in tasks]
        results = [TaskResult(task=task, outcome=outcome) for task, outcome in zip(tasks, outcomes, strict=True)]
        await asyncio.gather(*(source.finish([result]) for result in results))


async def deadlocks(world: World) -> int:
    """Counted by PostgreSQL, which reports its statistics of a session no later than when that ends."""
    await world.close()
    return await world.owner.fetchval(DEADLOCKS)


@pytest.mark.parametrize("catalogue", ["0.8", "0.14", "0.15", "0.17"], indirect=True)
async def test_failing_runs_and_claims_do_not_deadlock(catalogue: Database) -> None:
    async with a_world(catalogue) as world:
        await world.create(brittle)
        sources = [await world.source(brittle) for _ in range(WORKERS)]
        for _ in range(RUNS):
            await world.start("brittle", list(range(TASKS)))
        await asyncio.gather(*(work(source, random.Random(n)) for n, source in enumerate(sources)))
        left = await world.owner.fetchval("SELECT count(*) FROM pgflow.runs WHERE status = 'started'")
        assert left == 0
        assert await deadlocks(world) <= 1
