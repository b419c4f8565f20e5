"""A bad network between workers and PostgreSQL: nothing is lost, nothing runs twice, and work goes on soon."""

import time

from testkit.support.processes import WorkerProcess
from testkit.support.proxy import Moment, Weather
from testkit.support.together import together
from testkit.support.waiting import hold_for, until
from tests.chaos.arena import Arena
from tests.chaos.ground import Ground
from tests.chaos.load import goes_on, put_load, repeats
from tests.chaos.workloads import Plan, fan, jobs

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

PROGRESS_WITHIN = 10.0
"""Seconds from the end of an outage to the next handler's begin."""

CONNECTS_PER_SECOND = 2.0
"""Of one worker, over an outage that lasts."""

LASTING = 30.0

STATEMENTS = (
    r"pgmq\.read\(",
    r"FROM me CROSS JOIN LATERAL",
    r"pgflow\.complete_task",
    r"INTO \"?pgmq\"?\.\"?a_jobs",
    "INTO flowworker.workers",
)
"""Claims, finishes of tasks and of jobs, heartbeats."""


@together
async def test_a_refusing_network_for_5_s(arena: Arena) -> None:
    await _survives(arena, Weather.REFUSED, 5, fan, jobs)


@together
async def test_a_refusing_network_for_30_s(arena: Arena) -> None:
    await _survives(arena, Weather.REFUSED, 30, fan, jobs)


@together
async def test_lost_packets_for_5_s(arena: Arena) -> None:
    await _survives(arena, Weather.HELD, 5, fan, jobs)


@together
async def test_lost_packets_for_30_s(arena: Arena) -> None:
    await _survives(arena, Weather.HELD, 30, fan)


@together
async def test_half_open_connections_for_5_s(arena: Arena) -> None:
    await _survives(arena, Weather.SWALLOWED, 5, fan, jobs)


@together
async def test_half_open_connections_for_30_s(arena: Arena) -> None:
    await _survives(arena, Weather.SWALLOWED, 30, fan, jobs)


@together
async def test_resets_again_and_again_in_the_middle_of_statements(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        worker = ground.worker("worker", "fan", "jobs", through_proxy=True)
        await worker.start()
        for _ in range(3):
            await put_load(ground, 3)
            for statement in STATEMENTS:
                for moment in Moment:
                    await _reset_at(ground, statement, moment)
        await ground.conclude()


@together
async def test_200_ms_of_latency_only_take_longer(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        ground.proxy.latency = 0.1
        await _works_through_it(ground)


@together
async def test_a_trickle_of_single_bytes_only_takes_longer(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        ground.proxy.trickle = True
        await _works_through_it(ground)


async def _survives(arena: Arena, weather: Weather, seconds: float, *workloads: Flow | Queue) -> None:
    """Two workers under load are cut off for a while."""
    async with arena.ground(*workloads) as ground:
        served = ["fan" if isinstance(workload, Flow) else "jobs" for workload in workloads]
        pair = [ground.worker(name, *served, through_proxy=True) for name in ("one", "two")]
        await ground.start_workers(*pair)
        await put_load(ground, 3)
        await ground.began(6)
        connects = ground.proxy.accepted
        ground.proxy.weather = weather
        await put_load(ground, 12)
        await hold_for(seconds)
        workers = len(await ground.reports())
        if seconds >= LASTING:
            assert (ground.proxy.accepted - connects) / seconds <= CONNECTS_PER_SECOND * workers
        healed = time.monotonic_ns()
        ground.proxy.weather = Weather.CLEAR
        await goes_on(ground, healed, within=PROGRESS_WITHIN)
        await ground.conclude(patience=60)

        async def all_run() -> bool:
            return [report["state"] for report in await ground.reports()] == ["running"] * workers

        await until(all_run, "every worker reports that it runs")  # at its next heartbeat


async def _reset_at(ground: Ground, statement: str, moment: Moment) -> None:
    trap = ground.proxy.trap(statement, moment)
    await ground.start_run(fan, [Plan()])
    await ground.send(jobs, Plan())
    await until(trap.sprung.is_set, f"a statement like {statement}")


async def _works_through_it(ground: Ground) -> None:
    workers: list[WorkerProcess] = [ground.worker(name, "fan", "jobs", through_proxy=True) for name in ("one", "two")]
    await ground.start_workers(*workers)
    await put_load(ground, 5)
    await ground.conclude(patience=60)
    assert repeats(ground) == 0
