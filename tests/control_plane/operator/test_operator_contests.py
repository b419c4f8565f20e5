"""What undoes the operator's writes is named, is not fought, and keeps no work from its workers."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
from testkit.cluster.errors import ApiError
from testkit.support.waiting import hold_for, until
from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.test_operator_ownership import BINDINGS, POLICIES, binding, service_links_policy
from tests.control_plane.operator.world import DEPLOYMENTS, PODS, Object, World

WATCHED_FOR = 25.0
"""Seconds in which a fight without pauses would be hundreds of writes."""
MOST_WRITES = 12


def stamping(name: str) -> Object:
    """Undoes a field of ours and stamps every write, so that none leaves the object as it was."""
    policy: Object = service_links_policy(name)  # type: ignore[assignment]
    stamp = (
        'Object{metadata: Object.metadata{annotations: {"policy.example/seen": object.metadata.?resourceVersion'
        '.orValue("0")}}, spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{'
        "enableServiceLinks: true}}}}"
    )
    policy["spec"]["mutations"][0]["applyConfiguration"]["expression"] = stamp
    return policy


@pytest.fixture
async def stamped(world: World) -> AsyncGenerator[World]:
    """A world in which a policy stamps Deployments."""
    name = world.namespace
    await world.request("POST", POLICIES, stamping(name))
    await world.request("POST", BINDINGS, binding(name))
    yield world
    await world.request("DELETE", f"{BINDINGS}/{name}")
    await world.request("DELETE", f"{POLICIES}/{name}")


async def written(world: World, seconds: float) -> int:
    """How much the operator writes to Deployments in some time."""
    before = await asyncio.to_thread(world.writes, world.operator.user)
    await hold_for(seconds)
    after = await asyncio.to_thread(world.writes, world.operator.user)
    return sum("/deployments" in one for one in after[len(before) :])


async def test_a_policy_that_stamps_every_write_is_named_and_not_fought(stamped: World) -> None:
    await stamped.apply("report")
    await stamped.until_idle("report")
    (made,) = await stamped.deployments("report")
    assert "policy.example/seen" in made["metadata"]["annotations"], "the policy is in force"
    reported = await stamped.until_condition("report", "Contested", "True", "UndoneByOthers")
    assert "spec.template.spec.enableServiceLinks" in reported["message"]
    assert "admission policy" in reported["message"]
    assert await written(stamped, WATCHED_FOR) <= MOST_WRITES
    await stamped.ground.start_run(single, Plan())
    await stamped.ground.conclude()
    await stamped.until_idle("report")


@asynccontextmanager
async def rival(world: World, deployment: str, patch: Object) -> AsyncGenerator[None]:
    """Another controller, which writes its own opinion into a Deployment whenever that has changed."""

    async def insist() -> None:
        seen = ""
        while True:
            found = await world.find(DEPLOYMENTS, deployment)
            if found is not None and found["metadata"]["generation"] != seen:
                with suppress(ApiError):
                    seen = (await world.patch(DEPLOYMENTS, deployment, patch))["metadata"]["generation"]
            await asyncio.sleep(0.02)

    insisting = asyncio.create_task(insist())
    try:
        yield
    finally:
        insisting.cancel()
        await asyncio.wait({insisting})


async def test_a_controller_that_writes_into_the_pod_template_replaces_few_pods(world: World) -> None:
    await world.apply("report", scaling={"minReplicas": 1, "maxReplicas": 2, "tasksPerReplica": 4})
    await world.until_condition("report", "Ready", "True", "Running")
    (made,) = await world.deployments("report")
    patch = {"spec": {"template": {"spec": {"enableServiceLinks": True}}}}
    async with rival(world, made["metadata"]["name"], patch):
        reported = await world.until_condition("report", "Contested", "True", "UndoneByOthers")
        assert "spec.template.spec.enableServiceLinks" in reported["message"]
        assert "changed by test " in reported["message"], "the other field manager is named"
        assert await written(world, WATCHED_FOR) <= MOST_WRITES
        await world.ground.start_run(single, Plan())
        await world.ground.conclude()
    # Left alone, it is put right.
    await world.until_deployment(
        made["metadata"]["name"], lambda one: one["spec"]["template"]["spec"]["enableServiceLinks"] is False
    )


async def test_a_controller_with_another_number_of_replicas_is_named(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    (made,) = await world.deployments("report")
    async with rival(world, made["metadata"]["name"], {"spec": {"replicas": 1}}):
        reported = await world.until_condition("report", "Contested", "True", "UndoneByOthers")
        assert "spec.replicas" in reported["message"]
        assert "changed by test " in reported["message"]
        assert await written(world, WATCHED_FOR) <= MOST_WRITES


async def test_a_deployment_that_is_deleted_again_and_again_is_made_ever_more_rarely(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    (made,) = await world.deployments("report")
    name = made["metadata"]["name"]

    async def contested() -> bool:
        await world.delete(DEPLOYMENTS, name)
        return (await world.condition("report", "Contested")).get("status") == "True"

    await until(contested, "the deletions are told", patience=60)
    assert "deleted again and again" in (await world.condition("report", "Contested"))["message"]
    await world.until_found(DEPLOYMENTS, name)
    assert len(await world.list(PODS)) <= 1
