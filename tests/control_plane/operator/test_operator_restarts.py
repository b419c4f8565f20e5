"""Operators that die, freeze, stop and take over."""

import asyncio
import time
from pathlib import Path

import yaml
from testkit.support.waiting import hold_for, until
from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import FLOWWORKERS, World

from flowworker_operator.cluster.lease import Timing

VALUES = Path(__file__).parents[3] / "charts/flowworker/values.yaml"


async def test_an_operator_that_is_asked_to_stop_ends_cleanly_within_the_grace_of_its_pod(world: World) -> None:
    grace = yaml.safe_load(VALUES.read_text())["terminationGracePeriodSeconds"]
    await world.apply("report")
    await world.until_idle("report")
    async with asyncio.timeout(grace):
        assert await world.operator.stop() == 0


async def test_workers_go_on_without_an_operator_and_the_next_one_finishes_the_job(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    for _ in range(12):
        await world.ground.start_run(single, Plan(gate="go"))
    await world.until_replicas("report", 3)
    await world.ground.began(6)
    world.operator.kill()
    await world.operator.ended()
    world.ground.open_gate("go")
    await world.ground.conclude()
    await world.operator.start()
    await world.until_idle("report", patience=60)


async def test_an_operator_killed_in_the_middle_of_everything_leaves_nothing_undone(world: World) -> None:
    """Killed again and again, a little later each time, while a resource is created, works and changes."""
    await world.apply("report")
    for pause in (0.1, 0.4, 0.8):
        await hold_for(pause)
        world.operator.kill()
        await world.operator.ended()
        await world.operator.launch()
    for _ in range(8):
        await world.ground.start_run(single, Plan())
    await world.patch(FLOWWORKERS, "report", {"spec": {"image": "localhost/flowworker:next"}})
    await hold_for(1.0)
    world.operator.kill()
    await world.operator.ended()
    await world.operator.start()
    await world.ground.conclude(patience=60)
    await world.until_idle("report", patience=60)
    (deployment,) = await world.deployments("report")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "localhost/flowworker:next"
    assert {execution.attempt for execution in world.ground.executions()} == {1}


async def test_a_second_operator_waits_and_takes_over_when_the_first_is_killed(world: World) -> None:
    second = world.another_operator("operator-1")
    await second.start()
    await world.apply("report")
    await world.until_idle("report")
    assert world.writers() == {world.operator.user}
    world.operator.kill()
    await world.operator.ended()
    await world.ground.start_run(single, Plan())
    await world.ground.conclude(patience=60)
    await world.until_idle("report")
    assert second.user in world.writers()


async def test_a_leader_that_freezes_and_thaws_does_not_write_beside_its_successor(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    second = world.another_operator("operator-1")
    await second.start()
    world.operator.freeze()
    await until(lambda: "operator-1" in world.holder(), "the second operator leads", patience=60)
    await world.ground.start_run(single, Plan(gate="go"))
    await world.until_replicas("report", 1, patience=60)
    before = len(world.writes(world.operator.user))
    world.operator.thaw()
    await hold_for(3)
    assert len(world.writes(world.operator.user)) == before
    world.ground.open_gate("go")
    await world.ground.conclude()
    await world.until_idle("report")


async def test_a_stopped_leader_hands_over_at_once(world: World) -> None:
    second = world.another_operator("operator-1")
    await second.start()
    assert await world.operator.stop() == 0
    began = time.monotonic()
    await until(lambda: "operator-1" in world.holder(), "the second operator leads")
    assert time.monotonic() - began < Timing().lease, "it need not run out"
