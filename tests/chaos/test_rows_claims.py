"""Claims that take long, are cut off or come late: their tasks run, once, and the server is not flooded."""

import time

from testkit.support.together import together
from testkit.support.waiting import hold_for, until
from tests.chaos.arena import OWN_ROLES, Arena
from tests.chaos.disturbing import locked
from tests.chaos.ground import Ground
from tests.chaos.sessions import watched
from tests.chaos.workloads import Plan, Spread, jobs, single, wide

from flowworker.database.connection import connect

ELEMENTS = 10_000
KILOBYTE = 1_000
MEGABYTE = 1_000_000

LONGER_THAN_A_CLAIM = 11.0
"""Seconds, after which no client waits any longer for its claim."""

RUN_LOCKED = 30.0

WAITING_CLAIMS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'flowworker %' AND wait_event_type = 'Lock'
"""


@together
async def test_a_map_of_10_000_elements_of_2_kb_is_worked_on_with_few_sessions(arena: Arena) -> None:
    async with arena.ground(wide) as ground:
        worker = ground.worker("worker", "wide", role=OWN_ROLES[0])
        await worker.start()
        await ground.start_run(wide, Spread(elements=ELEMENTS, weight=2 * KILOBYTE))
        async with watched(ground):
            await ground.began(20, step="element", patience=60)


@together
async def test_three_workers_of_one_locked_run_open_no_further_sessions(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        workers = [ground.worker(f"worker {role}", "single", role=role) for role in OWN_ROLES]
        await ground.start_workers(*workers)
        run = await ground.start_run(single, Plan(seconds=2))
        await ground.began()
        async with watched(ground), locked(ground, [f"SELECT FROM pgflow.runs WHERE run_id = '{run}' FOR UPDATE"]):
            await hold_for(RUN_LOCKED)
        await ground.conclude()
        assert len(ground.executions()) == 1


@together
async def test_a_claim_that_waited_for_locked_tasks_until_it_was_given_up_loses_none(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        run = await ground.start_run(single, Plan())
        async with locked(ground, [f"SELECT FROM pgflow.step_tasks WHERE run_id = '{run}' FOR UPDATE"]):
            await ground.worker("worker", "single").start()
            await hold_for(LONGER_THAN_A_CLAIM)
        (execution,) = await ground.began(patience=20)
        assert execution.attempt == 1
        await ground.conclude()


@together
async def test_ten_jobs_of_2_mb_over_2_mb_a_second_all_run_as_their_first_attempt(arena: Arena) -> None:
    async with arena.ground(jobs) as ground:
        for _ in range(10):
            await ground.send(jobs, Plan(ballast="x" * 2 * MEGABYTE))
        ground.proxy.bandwidth = 2.0 * MEGABYTE
        await ground.worker("worker", "jobs", through_proxy=True).start()
        await ground.conclude(patience=90)
        assert [execution.attempt for execution in ground.executions()] == [1] * 10


@together
async def test_what_a_claim_brings_after_its_worker_was_marked_lost_is_not_run_by_it(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        runs = [await ground.start_run(single, Plan(seconds=3)) for _ in range(5)]
        ids = ", ".join(f"'{run}'" for run in runs)
        worker = ground.worker("worker", "single", max_concurrency="5")
        async with locked(ground, [f"SELECT FROM pgflow.step_tasks WHERE run_id IN ({ids}) FOR UPDATE"]):
            await worker.start()
            await until(lambda: _a_claim_waits(ground), "a claim waits for the locked tasks")
            began = time.monotonic_ns()
            await ground.owner.execute("UPDATE flowworker.workers SET state = 'lost'")
            ground.fault("marked lost", worker, began=began)
            await until(lambda: "goes on under a new id" in worker.log(), "the worker learns of it")
        await ground.conclude(patience=60)
        assert [execution.attempt for execution in ground.executions()] == [1] * 5


async def _a_claim_waits(ground: Ground) -> bool:
    admin = await connect(ground.database.superuser_dsn, application_name="test")
    try:
        return bool(await admin.fetchval(WAITING_CLAIMS))
    finally:
        await admin.close()
