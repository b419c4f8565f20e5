"""Cancelling while the run's tasks are claimed, finished and recovered: nothing deadlocks, strands or half ends."""

import asyncio
import random
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from testkit.support.waiting import until
from tests.integration.sources.world import World, completed, failed

from flowworker.client import Client
from flowworker.database.records import ClaimedTask, Outcome, Released, TaskResult
from flowworker.definition.flow import Flow
from flowworker.errors import DataError
from flowworker.runtime.sources.flow_source import FlowSource

RUNS = 25
ELEMENTS = 6

spread_out = Flow("spread_out", max_attempts=9, base_delay=0, timeout=60)


@spread_out.step
async def spread(value: object) -> list[int]:
    return []


@spread_out.map(over=spread)
async def each(element: int) -> int:
    return element


@spread_out.step
async def join(each: list[int]) -> int:
    return 0


def outcome_of(task: ClaimedTask, chance: random.Random) -> Outcome:
    """Mostly an output, else a failure, or the task is given back."""
    match chance.random():
        case number if number < 0.15:
            return failed()
        case number if number < 0.3:
            return Released(reason="test")
        case _:
            return completed(list(range(ELEMENTS)) if task.step_slug == "spread" else 0)


async def work(source: FlowSource, chance: random.Random, stopped: asyncio.Event) -> None:
    while not stopped.is_set():
        tasks = (await source.claim(8, ())).tasks
        await source.finish([TaskResult(task=task, outcome=outcome_of(task, chance)) for task in tasks])


async def die_and_be_recovered(world: World, alive: FlowSource, stopped: asyncio.Event) -> None:
    """Claim as a worker that dies with what it holds, which another one recovers; again and again."""
    while not stopped.is_set():
        dead_id = uuid4()
        dead = await world.source(spread_out, worker_id=dead_id)
        await dead.claim(4, ())
        await alive.recover([await world.peer(dead_id)])


async def cancel_all(admin: Client, runs: Sequence[UUID], chance: random.Random) -> None:
    for run_id in chance.sample(runs, len(runs)):
        try:
            await admin.cancel_run(run_id, actor="ada")
        except DataError as error:
            assert "is completed already" in str(error)  # noqa: PT017 - any other error is a failure


STATES = """
    SELECT
        r.run_id,
        r.status,
        (
            SELECT count(*) FROM pgflow.step_tasks AS t WHERE t.run_id = r.run_id AND t.status IN ('queued', 'started')
        ) AS open,
        (SELECT count(*) FROM pgflow.step_states AS s WHERE s.run_id = r.run_id AND s.status = 'started') AS under_way,
        array(
            SELECT q.outcome FROM flowworker.requests AS q WHERE q.target = r.run_id::text ORDER BY q.request_id
        ) AS outcomes
    FROM pgflow.runs AS r
"""


@pytest.mark.parametrize("catalogue", ["0.8", "0.14", "0.15", "0.17"], indirect=True)
async def test_cancelling_meets_claims_results_and_recovery(core_world: World) -> None:
    world, chance = core_world, random.Random(7)
    await world.create(spread_out)
    first, second, recovering = [await world.source(spread_out) for _ in range(3)]
    runs = [await world.start("spread_out", None) for _ in range(RUNS)]
    stopped = asyncio.Event()
    workers = [
        asyncio.create_task(work(first, random.Random(1), stopped)),
        asyncio.create_task(work(second, random.Random(2), stopped)),
        asyncio.create_task(die_and_be_recovered(world, recovering, stopped)),
    ]
    watching = await world.database.connect()
    async with Client(world.database.admin_dsn) as admin:
        await until(
            lambda: watching.fetchval("SELECT count(*) > 5 FROM pgflow.step_tasks WHERE status = 'completed'"),
            "work is under way",
        )
        await asyncio.gather(cancel_all(admin, runs, chance), cancel_all(admin, runs, chance))
    stopped.set()
    await asyncio.gather(*workers)
    await watching.close()
    rows = await world.owner.fetch(STATES)
    assert len(rows) == RUNS
    for row in rows:
        assert (row["open"], row["under_way"]) == (0, 0), dict(row)
        assert row["outcomes"] == (["cancelled"] if row["status"] == "failed" else ["completed"] * 2), dict(row)
    assert any(row["status"] == "failed" for row in rows)
    assert await world.owner.fetchval("SELECT count(*) FROM pgmq.q_spread_out") == 0
