"""SIGKILL, and everything that a dead worker leaves behind."""

import time

from testkit.support.processes import WorkerProcess
from testkit.support.proxy import Moment
from testkit.support.together import together
from testkit.support.waiting import until
from tests.chaos.arena import Arena
from tests.chaos.ground import Ground
from tests.chaos.load import put_load
from tests.chaos.workloads import Plan, fan, jobs, single

HELD = 1.0
"""Seconds that a handler runs before it kills its process: that it has begun is on record by then, also on a machine
that has other work."""

RERUN_WITHIN = 20.0
"""Seconds from the kill to the task's next run, whatever its timeout."""

CLAIM = r"t\.last_worker_id = \$1::uuid AND t\.status = 'started'"
"""The second statement of a flow's claim: what it finds was just claimed, and nothing of it has begun."""

COMPLETE = r"pgflow\.complete_task"


@together
async def test_tasks_of_a_killed_worker_run_again_within_20_s(arena: Arena) -> None:
    async with arena.ground(fan) as ground:
        victim, heir = ground.worker("victim", "fan"), ground.worker("heir", "fan")
        await victim.start()
        run = await ground.start_run(fan, [Plan(gate="open", gated="each")] * 5)
        await ground.began(5, worker="victim")
        await heir.start()
        ground.fault("kill", victim, began=victim.kill(), rerun_within=RERUN_WITHIN)
        await ground.began(5, worker="heir", step="each")
        rows = [await ground.task(run, "each", index) for index in range(5)]
        assert {row["attempts_count"] for row in rows} == {1}
        ground.open_gate("open")
        await ground.conclude()


@together
async def test_a_killed_fleet_is_replaced_and_nothing_is_lost(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        fleet = [ground.worker(f"old {number}", "fan", "jobs") for number in range(3)]
        await ground.start_workers(*fleet)
        await put_load(ground, 6, seconds=0.5)
        await ground.began(12)
        began = time.monotonic_ns()
        for worker in fleet:
            worker.kill()
        heirs = [ground.worker(f"new {number}", "fan", "jobs") for number in range(2)]
        await ground.start_workers(*heirs)
        ground.fault("kill of the fleet", *fleet, began=began, rerun_within=RERUN_WITHIN + 5)
        await ground.conclude()


@together
async def test_a_worker_killed_right_after_its_claim_was_committed_costs_no_attempt(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        victim = ground.worker("victim", "single", through_proxy=True)
        await victim.start()
        ground.proxy.trap(CLAIM, Moment.AFTER_COMMIT, least_rows=1, action=lambda: _kill(ground, victim))
        run = await ground.start_run(single, Plan())
        await victim.ended()
        assert ground.executions() == []
        assert (await ground.task(run, "only"))["status"] == "started"
        await ground.worker("heir", "single").start()
        (execution,) = await ground.began(patience=RERUN_WITHIN)
        assert (execution.attempt, execution.worker) == (1, "heir")
        await ground.conclude()


@together
async def test_a_worker_killed_between_handler_and_finish_repeats_only_the_handler(arena: Arena) -> None:
    await _repeats(arena, Moment.BEFORE_SEND, times=2)


@together
async def test_a_worker_killed_after_its_finish_was_committed_repeats_nothing(arena: Arena) -> None:
    await _repeats(arena, Moment.AFTER_COMMIT, times=1)


@together
async def test_the_fourth_worker_that_a_task_kills_fails_it_with_a_message_that_says_so(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        run = await ground.start_run(single, Plan(kills=True, seconds=HELD))
        for number in range(1, 5):
            victim = ground.worker(f"victim {number}", "single", pod_uid="one pod")
            await victim.start()
            await victim.ended()
            ground.fault("suicide", victim, began=time.monotonic_ns())
        heir = ground.worker("heir", "single", pod_uid="one pod")
        await heir.start()
        await ground.drained()
        task = await ground.task(run, "only")
        assert [execution.attempt for execution in ground.executions()] == [1, 1, 1, 1]
        assert task["status"] == "failed"
        assert "4 workers died while they ran this task" in task["error_message"]
        assert await ground.verdict() == []


@together
async def test_a_job_of_a_killed_worker_runs_again_within_20_s(arena: Arena) -> None:
    async with arena.ground(jobs) as ground:
        victim, heir = ground.worker("victim", "jobs"), ground.worker("heir", "jobs")
        await victim.start()
        await ground.send(jobs, Plan(gate="open"))
        await ground.began(worker="victim")
        await heir.start()
        ground.fault("kill", victim, began=victim.kill(), rerun_within=RERUN_WITHIN)
        (execution,) = await ground.began(worker="heir")
        assert execution.attempt == 1
        ground.open_gate("open")
        await ground.conclude()


@together
async def test_the_fourth_worker_that_a_job_kills_fails_it_with_a_message_that_says_so(arena: Arena) -> None:
    async with arena.ground(jobs) as ground:
        msg_id = await ground.send(jobs, Plan(kills=True, seconds=HELD))
        for number in range(1, 5):
            victim = ground.worker(f"victim {number}", "jobs")
            await victim.start()
            await victim.ended()
            ground.fault("suicide", victim, began=time.monotonic_ns())
        heir = ground.worker("heir", "jobs")
        await heir.start()
        await ground.drained()
        error = await ground.owner.fetchval(
            "SELECT headers -> 'flowworker' ->> 'error' FROM pgmq.a_jobs WHERE msg_id = $1", msg_id
        )
        assert len(ground.executions()) == 4
        assert "4 workers died while they ran this task" in error
        assert await ground.verdict(jobs=True) == []


@together
async def test_workers_killed_again_and_again_lose_nothing(arena: Arena) -> None:
    async with arena.ground(fan, jobs) as ground:
        witness = ground.worker("witness", "fan", "jobs")
        fleet = [ground.worker(f"worker {number}", "fan", "jobs") for number in range(2)]
        await ground.start_workers(witness, *fleet)
        for generation in range(2, 8):
            await put_load(ground, 4)
            await ground.began(generation * 6)
            victim = fleet.pop(0)
            ground.fault("kill", victim, began=victim.kill(), rerun_within=RERUN_WITHIN)
            fleet.append(ground.worker(f"worker {generation}", "fan", "jobs"))
            await fleet[-1].start()
        await ground.conclude()


def _kill(ground: Ground, victim: WorkerProcess) -> None:
    ground.fault("kill", victim, began=victim.kill(), rerun_within=RERUN_WITHIN)


async def _repeats(arena: Arena, moment: Moment, *, times: int) -> None:
    """A worker dies at this moment of its finish, and another one is there."""
    async with arena.ground(single) as ground:
        victim, heir = ground.worker("victim", "single", through_proxy=True), ground.worker("heir", "single")
        await victim.start()
        run = await ground.start_run(single, Plan(gate="open"))
        await ground.began(worker="victim")
        await heir.start()
        trap = ground.proxy.trap(COMPLETE, moment, action=lambda: _kill(ground, victim))
        ground.open_gate("open")
        await until(trap.sprung.is_set, "the victim finishes its task and dies of it")
        await ground.conclude()
        assert len(ground.executions()) == times
        assert (await ground.task(run, "only"))["attempts_count"] == 1
