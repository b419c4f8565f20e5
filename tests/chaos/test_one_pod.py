"""Several processes with one pod uid: containers of one pod, a restarted one, or people who set it by hand."""

import time

from testkit.support.together import together
from testkit.support.waiting import hold_for, until
from tests.chaos.arena import Arena
from tests.chaos.ground import Ground
from tests.chaos.workloads import Plan, single

RUNS = 10
WATCHED = 15.0
"""Seconds in which a false death would have shown."""

REPLACED_WITHIN = 8.0
"""Seconds: far less than the silence of 10 s that proves a death otherwise."""

WORKER_ID = "5d0f2c1e-8f8a-4f0c-9b36-6c5f8c0d7a11"


@together
async def test_two_processes_of_one_pod_leave_each_other_alone(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        pair = [ground.worker(name, "single", pod_uid="one pod", max_concurrency="5") for name in ("one", "two")]
        await ground.start_workers(*pair)
        for _ in range(RUNS):
            await ground.start_run(single, Plan(gate="open"))
        await ground.began(RUNS)
        await hold_for(WATCHED)
        ground.open_gate("open")
        await ground.conclude()
        assert len(ground.executions()) == RUNS
        assert {report["state"] for report in await ground.reports()} == {"running"}


@together
async def test_a_killed_process_is_replaced_at_once_by_the_next_of_its_pod(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        victim, bystander, heir = (
            ground.worker(name, "single", pod_uid="one pod", max_concurrency="1")
            for name in ("victim", "bystander", "heir")
        )
        await victim.start()
        await ground.start_run(single, Plan(gate="open"))
        await ground.began(worker="victim")
        await bystander.start()
        await ground.start_run(single, Plan(gate="open"))
        await ground.began(worker="bystander")
        ground.fault("kill", victim, began=victim.kill())
        await victim.ended()
        await heir.start()
        await ground.began(worker="heir", patience=REPLACED_WITHIN)
        ground.open_gate("open")
        await ground.conclude()
        assert await _states(ground) == {"victim": "lost", "bystander": "running", "heir": "running"}


@together
async def test_a_process_under_the_id_of_a_living_one_is_refused(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        first, second = (ground.worker(name, "single", worker_id=WORKER_ID) for name in ("first", "second"))
        await first.start()
        await ground.start_run(single, Plan(gate="open"))
        await ground.began(worker="first")
        await second.launch()
        assert await second.ended() == 64
        assert f"worker id {WORKER_ID} belongs to a process that is alive" in second.log()
        ground.open_gate("open")
        await ground.drained()  # the refusal is an error in a log
        assert len(ground.executions()) == 1
        assert await _states(ground) == {"first": "running"}


@together
async def test_the_id_of_a_killed_process_is_taken_over_at_once(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        first, second = (ground.worker(name, "single", worker_id=WORKER_ID) for name in ("first", "second"))
        await first.start()
        await ground.start_run(single, Plan(gate="open"))
        await ground.began(worker="first")
        ground.fault("kill", first, began=first.kill())
        await first.ended()
        began = time.monotonic()
        await second.start()
        await ground.began(worker="second", patience=REPLACED_WITHIN)
        assert time.monotonic() - began < WATCHED
        ground.open_gate("open")
        await ground.drained()  # the checker knows processes by their worker ids, and these two had one
        assert [execution.worker for execution in ground.executions()] == ["first", "second"]


async def _states(ground: Ground) -> dict[str, str]:
    await until(ground.reports, "workers have reported")
    return {report["pod_name"]: report["state"] for report in await ground.reports()}
