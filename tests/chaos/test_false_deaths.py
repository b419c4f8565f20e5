"""No live worker is declared dead, and none declared dead does harm when it turns out to live."""

import signal
from collections.abc import Collection
from typing import Any

from testkit.support.processes import WorkerProcess
from testkit.support.proxy import Moment, Weather
from testkit.support.together import together
from testkit.support.waiting import hold_for, until
from tests.chaos.arena import Arena
from tests.chaos.ground import Ground
from tests.chaos.workloads import Plan, jobs, single

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

OUTAGE = 60.0
DEATH = 15.0
"""Seconds of silence after which a worker has surely been declared dead."""

MOST_UNITS = 18
"""Of work for two workers with ten slots each."""

CLAIM = r"t\.last_worker_id = \$1::uuid AND t\.status = 'started'"
"""The second statement of a flow's claim: what it finds was just claimed, and nothing of it has begun."""

CLAIM_OF_JOBS = r"FROM me CROSS JOIN LATERAL"


@together
async def test_an_outage_of_60_s_declares_no_worker_dead(arena: Arena) -> None:
    await _no_worker_dies_in(arena, Weather.REFUSED, single, jobs)


@together
async def test_60_s_of_lost_packets_declare_no_worker_dead(arena: Arena) -> None:
    await _no_worker_dies_in(arena, Weather.HELD, single)


@together
async def test_60_s_of_lost_packets_take_no_job_from_its_worker(arena: Arena) -> None:
    await _no_worker_dies_in(arena, Weather.HELD, jobs)


@together
async def test_a_handler_that_blocks_the_loop_for_60_s_keeps_its_task_and_is_named(arena: Arena) -> None:
    async with arena.ground(single, jobs) as ground:
        blocked, witness = ground.worker("blocked", "single", "jobs"), ground.worker("witness", "single", "jobs")
        await blocked.start()
        await ground.send(jobs, Plan(gate="open"))
        await ground.began(1, worker="blocked")
        await ground.start_run(single, Plan(blocks=OUTAGE))
        await ground.began(2, worker="blocked")
        await witness.start()
        ground.open_gate("open")
        await ground.conclude(patience=OUTAGE + 20)
        assert len(ground.executions()) == 2
        assert await _lost(ground) == []
        assert "only blocks the event loop for" in blocked.log()
        assert "time.sleep(plan.blocks)" in blocked.log()


@together
async def test_a_jump_of_the_wall_clock_by_a_day_declares_no_worker_dead(arena: Arena) -> None:
    async with arena.ground(single, jobs) as ground:
        jumper = ground.worker("jumper", "single", "jobs", launcher="tests.chaos.jumping_clock")
        witness = ground.worker("witness", "single", "jobs")
        await ground.start_workers(jumper, witness)
        await _hold_work(ground, jumper, witness)
        jumper.send_signal(signal.SIGUSR1)
        await hold_for(DEATH)
        jumper.send_signal(signal.SIGUSR2)
        await hold_for(DEATH)
        assert "the clock jumped by 86400" in jumper.log()
        await _all_finish_their_own_work(ground)


@together
async def test_a_frozen_observer_declares_no_worker_dead_when_it_thaws(arena: Arena) -> None:
    async with arena.ground(single, jobs) as ground:
        observer, witness = (ground.worker(name, "single", "jobs") for name in ("observer", "witness"))
        await witness.start()
        await _hold_work(ground, witness)
        await observer.start()
        began = observer.freeze()
        await hold_for(DEATH)
        ground.fault("freeze of the observer", observer, began=began, ended=observer.thaw())
        await hold_for(DEATH)
        assert {report["pod_name"] for report in await _lost(ground)} == {"observer"}
        ground.open_gate("open")
        await ground.conclude()
        assert {execution.worker for execution in ground.executions()} == {"witness"}


@together
async def test_a_frozen_worker_that_thaws_cannot_overwrite_a_newer_attempt_and_goes_on(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        frozen, heir = ground.worker("frozen", "single"), ground.worker("heir", "single")
        await frozen.start()
        run = await ground.start_run(single, Plan(gate="open"))
        await ground.began(worker="frozen")
        await heir.start()
        began = frozen.freeze()
        ground.fault("freeze", frozen, began=began, rerun_within=20)
        await ground.began(worker="heir")
        ground.open_gate("open", "frozen")
        frozen.thaw()
        await until(lambda: ground.executions(worker="frozen")[0].ended, "the frozen handler ends")
        await until(lambda: "goes on under a new id" in frozen.log(), "the frozen worker learns of its death")
        assert (await ground.task(run, "only"))["status"] == "started"
        ground.open_gate("open")
        await ground.drained()
        assert (await ground.task(run, "only"))["attempts_count"] == 1
        heir.send_signal(signal.SIGTERM)
        assert await heir.ended() == 0
        await ground.start_run(single, Plan())
        await ground.began(2, worker="frozen")
        await ground.conclude()
        states = [report["state"] for report in await ground.reports() if report["pod_name"] == "frozen"]
        assert states == ["lost", "running"]


@together
async def test_a_frozen_worker_that_thaws_cannot_overwrite_a_newer_claim_of_a_job(arena: Arena) -> None:
    async with arena.ground(jobs) as ground:
        frozen, heir = ground.worker("frozen", "jobs"), ground.worker("heir", "jobs")
        await frozen.start()
        await ground.send(jobs, Plan(gate="open"))
        await ground.began(worker="frozen")
        await heir.start()
        ground.fault("freeze", frozen, began=frozen.freeze(), rerun_within=20)
        await ground.began(worker="heir")
        ground.open_gate("open", "frozen")
        frozen.thaw()
        await until(lambda: ground.executions(worker="frozen")[0].ended, "the frozen handler ends")
        await until(lambda: "result refused" in frozen.log(), "the frozen worker's result is refused")
        ground.open_gate("open")
        await ground.conclude()


@together
async def test_a_claim_whose_reply_was_lost_is_given_back_and_runs(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        worker = ground.worker("worker", "single", through_proxy=True)
        await worker.start()
        trap = ground.proxy.trap(CLAIM, Moment.AFTER_COMMIT, least_rows=1)
        run = await ground.start_run(single, Plan())
        await until(trap.sprung.is_set, "the reply of the claim is lost")
        (execution,) = await ground.began(patience=10)
        assert execution.attempt == 1
        await ground.conclude()
        assert (await ground.task(run, "only"))["attempts_count"] == 1
        assert await _lost(ground) == []


@together
async def test_a_job_whose_claim_was_lost_on_the_way_comes_back_with_its_lease(arena: Arena) -> None:
    async with arena.ground(jobs) as ground:
        await ground.send(jobs, Plan())
        trap = ground.proxy.trap(CLAIM_OF_JOBS, Moment.AFTER_COMMIT)
        await ground.worker("worker", "jobs", through_proxy=True).start()
        await until(trap.sprung.is_set, "the reply of the claim is lost")
        (execution,) = await ground.began(patience=20)
        assert execution.attempt == 1
        await ground.conclude()


async def _no_worker_dies_in(arena: Arena, weather: Weather, *workloads: Flow | Queue) -> None:
    """Two busy workers are cut off together; the handlers of one end in the outage, those of the other after it."""
    async with arena.ground(*workloads) as ground:
        served = ["single" if isinstance(workload, Flow) else "jobs" for workload in workloads]
        pair = [ground.worker(name, *served, through_proxy=True) for name in ("one", "two")]
        await ground.start_workers(*pair)
        await _hold_work(ground, *pair)
        ground.proxy.weather = weather
        await hold_for(OUTAGE / 2)
        ground.open_gate("open", "one")
        await hold_for(OUTAGE / 2)
        ground.proxy.weather = Weather.CLEAR
        await hold_for(DEATH)
        await _all_finish_their_own_work(ground)


async def _hold_work(ground: Ground, *workers: WorkerProcess) -> None:
    """Start tasks and jobs until every one of these workers holds some, all waiting at the same gate."""
    holders: set[tuple[str, str]] = set()
    steps = {single: "only", jobs: "jobs"}
    wanted = {(worker.name, steps[workload]) for worker in workers for workload in ground.workloads}
    for _ in range(MOST_UNITS):
        number = len(ground.executions())
        if single in ground.workloads:
            await ground.start_run(single, Plan(gate="open"))
        if jobs in ground.workloads:
            await ground.send(jobs, Plan(gate="open"))
        found = await ground.began(number + len(ground.workloads))
        holders = {(execution.worker, execution.key.step) for execution in found}
        if holders >= wanted:
            return
    raise AssertionError(f"work went only to {holders}")


async def _all_finish_their_own_work(ground: Ground) -> None:
    """No worker was declared lost, and nothing ran twice."""
    before = len(ground.executions())
    assert await _lost(ground) == []
    ground.open_gate("open")
    await ground.conclude()
    assert len(ground.executions()) == before


async def _lost(ground: Ground) -> Collection[Any]:
    return [report for report in await ground.reports() if report["state"] == "lost"]
