"""Claims that meet the failure of a run, on cores that end its other tasks: they take turns instead of deadlocking."""

import asyncio
import random

import pytest
from tests.bench.failing_runs import TASKS, WORKERS, brittle, deadlocks, work
from tests.conftest import Database
from tests.integration.sources.world import a_world

RUNS = 20


@pytest.mark.parametrize("catalogue", ["0.8", "0.14", "0.15", "0.17"], indirect=True)
async def test_failing_runs_and_claims_do_not_deadlock(catalogue: Database) -> None:
    async with a_world(catalogue) as world:
        await world.create(brittle)
        sources = [await world.source(brittle) for _ in range(WORKERS)]
        for _ in range(RUNS):
            await world.start("brittle", list(range(TASKS)))
        done = await asyncio.gather(*(work(source, random.Random(n)) for n, source in enumerate(sources)))
        left = await world.owner.fetchval("SELECT count(*) FROM pgflow.runs WHERE status = 'started'")
        assert left == 0
        assert 1000 * await deadlocks(world) <= sum(done)
