"""From nothing to many workers and back."""

from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import World


async def test_an_applied_resource_proves_itself_and_goes_to_zero(world: World) -> None:
    await world.apply("report")
    await world.until_condition("report", "Ready", "True")
    await world.until_idle("report")
    (deployment,) = await world.deployments("report")
    assert deployment["metadata"]["annotations"]["flowworker.dev/proven"] == "true"
    assert deployment["spec"]["replicas"] == 0


async def test_a_backlog_brings_workers_and_its_end_takes_them_away(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    runs = [await world.ground.start_run(single, Plan(gate="go")) for _ in range(12)]
    await world.until_replicas("report", 3)
    await world.ground.began(6)
    world.ground.open_gate("go")
    await world.ground.conclude()
    await world.until_idle("report")
    assert {(await world.ground.task(run, "only"))["attempts_count"] for run in runs} == {1}


async def test_the_longest_name_there_can_be_is_as_good_as_any(world: World) -> None:
    name = "n" * 63
    await world.apply(name)
    await world.until_idle(name)
    await world.ground.start_run(single, Plan(gate="go"))
    await world.until_replicas(name, 1)
    await world.ground.began(1)
    world.ground.open_gate("go")
    await world.ground.conclude()
    await world.until_idle(name)
