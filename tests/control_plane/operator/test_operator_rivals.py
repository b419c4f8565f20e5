"""Two installations that look after one namespace: one serves it, the other stands back and says so."""

from testkit.support.waiting import hold_for, until
from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import EVENTS, FLOWWORKERS, Object, World
from tests.control_plane.operator_process import OperatorProcess

LONG_ENOUGH = 20.0
"""Seconds in which two that do not know of each other make dozens of Deployments."""
TAKEN_OVER_WITHIN = 180.0
"""Seconds: the next challenge comes a minute after the first one, and goes without an answer for another one."""


async def another_release(world: World) -> OperatorProcess:
    """An operator of another installation and another version, which leads on its own Lease."""
    operator = world.another_operator("operator-1", LEASE_NAME="another-release")
    operator.launcher = "tests.control_plane.other_version"
    await operator.start()
    return operator


async def served_by(world: World, name: str) -> str:
    nothing: Object = {}
    status: Object = (await world.flowworker(name)).get("status", nothing)
    return status.get("servedBy", nothing).get("release", "")


async def stands_back(world: World) -> bool:
    return any(one["reason"] == "StandsBack" for one in await world.list(EVENTS))


async def test_of_two_installations_one_serves_and_the_other_stands_back(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    (before,) = await world.deployments("report")
    await another_release(world)
    await until(lambda: stands_back(world), "the other one says that it stands back")
    condition = await world.until_condition("report", "Contested", "True", "SecondOperator")
    assert f"{world.namespace}/another-release" in condition["message"]
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    await hold_for(LONG_ENOUGH)
    assert [one["metadata"]["uid"] for one in await world.deployments("report")] == [before["metadata"]["uid"]]
    assert await served_by(world, "report") == f"{world.namespace}/flowworker-operator"


async def test_of_two_installations_that_see_a_new_resource_at_once_only_one_makes_a_deployment(world: World) -> None:
    await another_release(world)
    for number in range(5):
        await world.apply(f"report-{number}", flow=f"f{number}", handler="no.such:handler")
    await hold_for(LONG_ENOUGH)
    for number in range(5):
        assert len(await world.deployments(f"report-{number}")) == 1


async def test_an_installation_that_answers_no_more_is_followed_by_the_other(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    await another_release(world)
    await until(lambda: stands_back(world), "the other one says that it stands back")
    world.operator.kill()
    await world.operator.ended()
    # The one that is gone has answered the first challenge; a change of the resource is a reason to ask again.
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"minReplicas": 1}}})

    async def taken_over() -> bool:
        return await served_by(world, "report") == f"{world.namespace}/another-release"

    await until(taken_over, "the other one takes over", patience=TAKEN_OVER_WITHIN)
    await world.until_condition("report", "Ready", "True", "Running", patience=60)
    assert len(await world.deployments("report")) == 1
    await world.operator.start()
    await hold_for(LONG_ENOUGH)
    assert len(await world.deployments("report")) == 1
