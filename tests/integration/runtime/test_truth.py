"""What workers say they did is what the database says they did, whatever the core does to the tasks of a failed run."""

import asyncio
import random
from uuid import UUID

import pytest
from tests.conftest import Database
from tests.integration.runtime.conftest import World

from flowworker.definition.flow import Flow
from flowworker.telemetry.events import RunFailed, TaskFailed, TaskStopped

RUNS, TASKS, WORKERS = 12, 20, 3

PER_STATUS = "SELECT status, count(*) FROM pgflow.step_tasks GROUP BY status"
REPORTED = "SELECT sum(failed)::integer AS failed, sum(completed)::integer AS completed FROM flowworker.workers"

chancy = Flow("chancy", max_attempts=1, base_delay=0, timeout=30)


@chancy.map
async def element(value: float) -> float:
    await asyncio.sleep(value / 50)
    if value < 0.05:
        raise RuntimeError("one in twenty fails")
    return value


@pytest.mark.parametrize("catalogue", ["0.8", "0.14", "0.15", "0.17"], indirect=True)
async def test_reports_of_failing_runs_equal_the_rows(catalogue: Database) -> None:
    owner = await catalogue.connect()
    world, chance = World(catalogue, owner), random.Random(7)
    await world.create(chancy)
    workers = [world.worker(chancy) for _ in range(WORKERS)]
    for worker in workers:
        await worker.start()
    runs: list[UUID] = [await world.start_run(chancy, [chance.random() for _ in range(TASKS)]) for _ in range(RUNS)]
    failed_runs = [run for run in runs if (await world.ended(run))[0] == "failed"]
    for worker in workers:
        await worker.stop()
    rows = {row["status"]: row["count"] for row in await owner.fetch(PER_STATUS)}
    reported = await owner.fetchrow(REPORTED)
    assert reported is not None
    failures = world.heard.of(TaskFailed)
    assert 0 < len(failed_runs) < RUNS
    assert sorted(event.run_id for event in world.heard.of(RunFailed)) == sorted(failed_runs)
    assert (len(failures), len(world.heard.of(TaskStopped))) == (rows["failed"], rows["completed"])
    assert (reported["failed"], reported["completed"]) == (rows["failed"], rows["completed"])
    await owner.close()
