"""Workers that live while pgflow is migrated beneath them, drained as the guide says."""

from collections.abc import AsyncIterator

import pytest
from testkit.support.waiting import until
from tests.conftest import TESTED_CORES, Database, upgrade
from tests.integration.runtime.conftest import World

from flowworker.definition.flow import Flow
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.telemetry.events import TaskFailed

ASK = "INSERT INTO flowworker.drains (target, until, reason) VALUES ($1, clock_timestamp() + interval '60 s', '')"
ATTEMPTS = "SELECT max(attempts_count) FROM pgflow.step_tasks"

sums = Flow("sums", max_attempts=1, base_delay=0, timeout=30)


@sums.step
async def numbers(until: int) -> list[int]:
    return list(range(until))


@sums.map(over=numbers)
async def square(number: int) -> int:
    return number * number


@sums.step
async def total(square: list[int], run: int) -> int:
    return sum(square) + run


@pytest.fixture
async def world(installed_database: Database) -> AsyncIterator[World]:
    owner = await installed_database.connect()
    yield World(installed_database, owner)
    await owner.close()


@pytest.mark.parametrize("core", [core for core in TESTED_CORES if core in {"0.10", "0.12", "0.14", "0.17"}])
async def test_a_drained_worker_goes_on_after_a_migration(world: World, core: str) -> None:
    await world.create(sums)
    async with world.worker(sums, when_drained="wait") as worker:
        assert await world.ended(await world.start_run(sums, 4)) == ("completed", {"total": 18})
        await world.owner.execute(ASK, str(worker.worker_id))
        await until(lambda: worker.lifecycle is Lifecycle.DRAINING and worker.state().drained, "the worker is drained")
        waiting = await world.start_run(sums, 3)
        await upgrade(world.database, core)
        await world.owner.execute("DELETE FROM flowworker.drains")
        assert await world.ended(waiting) == ("completed", {"total": 8})
        assert await world.ended(await world.start_run(sums, 4)) == ("completed", {"total": 18})
    assert await world.owner.fetchval(ATTEMPTS) == 1
    assert world.heard.of(TaskFailed) == []
