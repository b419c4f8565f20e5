"""Giving back what dead workers, foreign workers and no worker hold."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tests.integration.sources.flows import one_step, root_map, wide
from tests.integration.sources.world import World, claim_all, completed, failed, finish_one

from flowworker.database.identifiers import insert_channel
from flowworker.database.records import Verdict
from flowworker.database.stranded import CRASH_BUDGET, FOREIGN_GRACE
from flowworker.runtime.source import Recovery
from flowworker.runtime.sources.flow_source import FlowSource


async def held_by_the_dead(world: World) -> tuple[UUID, UUID, FlowSource]:
    """A run whose only task is held by a worker; (run, that worker's id, another worker's source)."""
    await world.create(one_step)
    dead_id = uuid4()
    dead, alive = await world.source(one_step, worker_id=dead_id), await world.source(one_step)
    run_id = await world.start("one_step")
    await claim_all(dead)
    return run_id, dead_id, alive


async def test_a_dead_worker_s_task_runs_again_at_once_without_charging_the_attempt(world: World) -> None:
    _, dead_id, alive = await held_by_the_dead(world)
    recovery = await alive.recover([await world.peer(dead_id)])
    assert (recovery.released, recovery.failed, list(recovery.lost)) == (1, 0, [dead_id])
    assert str(dead_id) in recovery.notes[0]
    (task,) = await claim_all(alive)
    assert (task.attempt, task.losses) == (1, 1)


async def test_recovery_wakes_sleepers(world: World) -> None:
    _, dead_id, alive = await held_by_the_dead(world)
    heard = await world.heard(insert_channel("one_step"))
    await alive.recover([await world.peer(dead_id)])
    async with asyncio.timeout(5):
        assert await heard.get() == insert_channel("one_step")


async def test_a_beat_since_the_observation_saves_the_worker(world: World) -> None:
    run_id, dead_id, alive = await held_by_the_dead(world)
    seen = await world.peer(dead_id)
    await world.beat(dead_id, slug="one_step")
    recovery = await alive.recover([seen])
    assert (recovery.released, recovery.lost) == (0, [])
    assert (await world.task(run_id, "only"))["status"] == "started"


async def test_a_living_worker_s_task_is_never_taken_however_long_it_runs(world: World) -> None:
    run_id, _, alive = await held_by_the_dead(world)
    await world.owner.execute(
        "UPDATE pgflow.step_tasks "
        "SET queued_at = queued_at - interval '1 day', started_at = started_at - interval '1 day'"
    )
    assert (await alive.recover([])).released == 0
    assert (await world.task(run_id, "only"))["status"] == "started"


async def test_a_zombie_s_late_result_is_refused(world: World) -> None:
    await world.create(one_step)
    dead_id = uuid4()
    zombie, alive = await world.source(one_step, worker_id=dead_id), await world.source(one_step)
    run_id = await world.start("one_step")
    (stale,) = await claim_all(zombie)
    await alive.recover([await world.peer(dead_id)])
    assert (await finish_one(zombie, stale, completed("zombie"))).verdict is Verdict.SUPERSEDED
    (current,) = await claim_all(alive)
    assert (await finish_one(zombie, stale, failed("zombie"))).verdict is Verdict.SUPERSEDED
    assert (await finish_one(alive, current, completed("alive"))).verdict is Verdict.COMPLETED
    assert await world.run(run_id) == ("completed", {"only": "alive"})


async def test_the_task_of_a_worker_that_stopped_or_was_lost_before_is_given_back(world: World) -> None:
    for state in ("stopped", "lost"):
        async with asyncio.timeout(20):
            dead_id = uuid4()
            if state == "stopped":
                await world.create(one_step)
            dead, alive = await world.source(one_step, worker_id=dead_id), await world.source(one_step)
            await world.start("one_step")
            await claim_all(dead)
            await world.owner.execute("UPDATE flowworker.workers SET state = $2 WHERE worker_id = $1", dead_id, state)
            assert (await alive.recover([])).released == 1
            (task,) = await claim_all(alive)
            await finish_one(alive, task, completed())


async def test_a_task_without_an_owner_is_given_back(world: World) -> None:
    _, dead_id, alive = await held_by_the_dead(world)
    await world.owner.execute("DELETE FROM pgflow.workers WHERE worker_id = $1", dead_id)
    assert (await alive.recover([])).released == 1


@pytest.mark.parametrize(("past_timeout", "released"), [(FOREIGN_GRACE - 5, 0), (FOREIGN_GRACE + 5, 1)])
async def test_a_foreign_worker_loses_a_task_only_long_past_its_timeout(
    world: World, past_timeout: float, released: int
) -> None:
    _, foreign_id, alive = await held_by_the_dead(world)
    await world.owner.execute("DELETE FROM flowworker.workers WHERE worker_id = $1", foreign_id)
    await world.owner.execute(
        "UPDATE pgflow.step_tasks SET queued_at = queued_at - $1::interval, started_at = started_at - $1::interval",
        timedelta(seconds=one_step.options.timeout + past_timeout),
    )
    assert (await alive.recover([])).released == released


async def test_a_task_that_keeps_killing_workers_fails_at_the_crash_budget(world: World) -> None:
    await world.create(one_step)
    alive = await world.source(one_step)
    run_id = await world.start("one_step")
    recovery = Recovery()
    for loss in range(CRASH_BUDGET + 1):
        victim_id = uuid4()
        victim = await world.source(one_step, worker_id=victim_id)
        (task,) = await claim_all(victim)
        assert (task.losses, task.attempt) == (loss, 1)
        recovery = await alive.recover([await world.peer(victim_id)])
    assert (recovery.released, recovery.failed) == (0, 1)
    row = await world.task(run_id, "only")
    assert row["status"] == "failed"
    assert "4 workers died while they ran this task" in row["error_message"]
    assert (await world.run(run_id))[0] == "failed"


async def test_a_task_that_kills_its_worker_takes_the_one_beside_it_along_no_more_than_twice(world: World) -> None:
    """They are given back apart, the culprit first at the latest when they were lost together for the third time."""
    await world.create(one_step)
    alive = await world.source(one_step)
    culprit, innocent = [await world.start("one_step") for _ in range(2)]
    for _ in range(CRASH_BUDGET + 2):
        victim_id = uuid4()
        victim = await world.source(one_step, worker_id=victim_id)
        if culprit not in {task.run_id for task in await claim_all(victim)}:
            break
        await alive.recover([await world.peer(victim_id)])
    assert (await world.run(culprit))[0] == "failed"
    await world.make_visible("one_step")
    (task,) = await claim_all(alive)
    assert (task.run_id, task.losses) == (innocent, 2)


async def test_losses_leave_the_headers_of_others_alone(world: World) -> None:
    _, dead_id, alive = await held_by_the_dead(world)
    await world.owner.execute("""UPDATE pgmq.q_one_step SET headers = '{"traceparent": "00-1"}'""")
    await alive.recover([await world.peer(dead_id)])
    (task,) = await claim_all(alive)
    assert await world.headers("one_step", task.msg_id) == {"traceparent": "00-1", "flowworker": {"losses": 1}}


async def test_observers_that_act_at_once_count_one_loss(world: World) -> None:
    _, dead_id, first = await held_by_the_dead(world)
    others = [await world.source(one_step) for _ in range(3)]
    peer = await world.peer(dead_id)
    recoveries = await asyncio.gather(*(source.recover([peer]) for source in (first, *others)))
    assert sum(recovery.released for recovery in recoveries) == 1
    assert sum(len(recovery.lost) for recovery in recoveries) == 1
    (task,) = await claim_all(first)
    assert task.losses == 1


async def test_recovery_racing_with_the_worker_s_own_finish_has_one_winner(world: World) -> None:
    await world.create(root_map)
    dead_id = uuid4()
    slow, alive = await world.source(root_map, worker_id=dead_id), await world.source(root_map)
    run_id = await world.start("root_map", list(range(20)))
    tasks = await claim_all(slow, limit=20)
    peer = await world.peer(dead_id)
    recovering = asyncio.create_task(alive.recover([peer]))
    receipts = await asyncio.gather(*(finish_one(slow, task, completed("slow")) for task in tasks))
    recovery = await recovering
    written = sum(receipt.verdict is Verdict.COMPLETED for receipt in receipts)
    superseded = sum(receipt.verdict is Verdict.SUPERSEDED for receipt in receipts)
    assert (written + superseded, superseded) == (20, recovery.released)
    for task in await claim_all(alive, limit=20):
        await finish_one(alive, task, completed("alive"))
    status, output = await world.run(run_id)
    assert status == "completed"
    assert output["element"].count("slow") == written


async def test_tasks_of_a_run_that_has_failed_are_left_alone(world: World) -> None:
    await world.create(wide)
    dead_id = uuid4()
    dead, alive = await world.source(wide, worker_id=dead_id), await world.source(wide)
    await world.start("wide")
    left, *_ = await claim_all(dead)
    await finish_one(dead, left, failed())
    assert replace(await alive.recover([await world.peer(dead_id)]), notes=(), lost=()).released == 0


async def test_ghosts_at_the_head_of_the_queue_are_archived(world: World) -> None:
    await world.create(one_step)
    source = await world.source(one_step)
    await world.start("one_step")
    (task,) = await claim_all(source)
    await finish_one(source, task, completed())
    ghost = await world.send("one_step", {})
    await world.owner.execute("UPDATE pgflow.step_tasks SET message_id = $1", ghost)
    assert (await source.recover([], tuple)).archived == 1
    assert await world.owner.fetchval("SELECT count(*) FROM pgmq.q_one_step") == 0


@pytest.mark.parametrize("catalogue", ["0.13", "0.17"], indirect=True)
async def test_permanently_stalled_tasks_are_left_to_people(core_world: World) -> None:
    await core_world.create(one_step)
    dead_id = uuid4()
    dead, alive = await core_world.source(one_step, worker_id=dead_id), await core_world.source(one_step)
    await core_world.start("one_step")
    await claim_all(dead)
    await core_world.owner.execute("UPDATE pgflow.step_tasks SET permanently_stalled_at = now()")
    assert (await alive.recover([await core_world.peer(dead_id)])).released == 0


async def test_a_worker_never_takes_its_own_tasks(world: World) -> None:
    await world.create(one_step)
    worker_id = uuid4()
    source = await world.source(one_step, worker_id=worker_id)
    await world.start("one_step")
    await claim_all(source)
    await world.owner.execute("UPDATE flowworker.workers SET state = 'lost' WHERE worker_id = $1", worker_id)
    assert (await source.recover([])).released == 0
