"""Who is alive, who is lost, and what a lost worker may still do."""

import asyncio
import time

from testkit.support.history import Fault
from testkit.support.proxy import Weather
from testkit.support.together import together
from testkit.support.waiting import hold_for
from tests.chaos.arena import Arena
from tests.chaos.cells import APPLICATIONS, Lane
from tests.chaos.disturbing import locked
from tests.chaos.load import put_load, repeats
from tests.chaos.workloads import Plan, fan, jobs, single

from flowworker.runtime.heartbeat.liveness import DEATH_AFTER

OUTAGE = 24.0
"""Seconds; every lease has lapsed for longer than a job waits for its holder."""

CUT = 25.0
"""Seconds; long enough to be declared lost and to do harm afterwards."""

NEWCOMERS = 3


@together
async def test_two_processes_of_one_pod_do_not_declare_each_other_dead(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        pair = [ground.worker(name, "single", pod_uid="one pod") for name in ("one", "two")]
        await ground.start_workers(*pair)
        for _ in range(10):
            await ground.start_run(single, Plan(seconds=4))
        await ground.conclude(patience=60)
        assert len(ground.executions()) == 10
        assert {report["state"] for report in await ground.reports()} == {"running"}


@together
async def test_workers_started_in_an_outage_take_no_job_from_its_worker(arena: Arena) -> None:
    async with arena.ground(jobs) as ground:
        await ground.worker("holder", "jobs", through_proxy=True).start()
        for _ in range(5):
            await ground.send(jobs, Plan(gate="open"))
        await ground.began(5, worker="holder")
        ground.proxy.weather = Weather.REFUSED
        newcomers = [ground.worker(f"newcomer {number}", "jobs", through_proxy=True) for number in range(NEWCOMERS)]
        starting = asyncio.gather(*(newcomer.start() for newcomer in newcomers))
        await hold_for(OUTAGE)
        ground.proxy.weather = Weather.CLEAR
        await starting
        await hold_for(OUTAGE / 2)
        ground.open_gate("open")
        await ground.conclude()
        assert repeats(ground) == 0


@together
async def test_a_locked_worker_row_has_no_worker_of_its_process_declared_dead(arena: Arena) -> None:
    async with arena.ground(single, jobs) as ground:
        await ground.worker("holder", "single", "jobs").start()
        await ground.start_run(single, Plan(gate="open"))
        await ground.send(jobs, Plan(gate="open"))
        await ground.began(2, worker="holder")
        row = await ground.owner.fetchval("SELECT worker_id FROM flowworker.workers WHERE slug = 'single'")
        await ground.worker("rival", "single", "jobs").start()
        statements = [
            f"SELECT FROM flowworker.workers WHERE worker_id = '{row}' FOR UPDATE",
            f"UPDATE pgflow.workers SET queue_name = queue_name WHERE worker_id = '{row}'",
        ]
        async with locked(ground, statements):
            await hold_for(CUT)
        await hold_for(DEATH_AFTER / 2)
        assert {report["state"] for report in await ground.reports()} == {"running"}
        ground.open_gate("open")
        await ground.conclude()
        assert repeats(ground) == 0


@together
async def test_a_worker_whose_heartbeats_alone_are_cut_off_begins_nothing_once_it_is_lost(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        cut, peer = ground.worker("cut", "fan", "jobs", through_proxy=True), ground.worker("peer", "fan", "jobs")
        await ground.start_workers(cut, peer)
        await put_load(ground, 2)
        await ground.began(2)
        lines = [ground.proxy.line(APPLICATIONS[lane]) for lane in (Lane.BEAT, Lane.LISTEN)]
        began = time.monotonic_ns()
        for line in lines:
            line.weather = Weather.REFUSED
        for _ in range(int(CUT)):
            await put_load(ground, 1)
            await hold_for(1)
        for line in lines:
            line.heal()
        ended = time.monotonic_ns()
        workers = frozenset({"cut"})
        ground.excuse(Fault(name="cut", began=began, ended=ended, workers=workers, only_by_death=True))
        await ground.conclude()
