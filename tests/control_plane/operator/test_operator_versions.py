"""An operator whose models know less than the CRD of the cluster."""

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
from testkit.cluster.control_plane import ControlPlane
from tests.chaos.arena import Arena
from tests.chaos.workloads import Plan, single
from tests.control_plane.conftest import RESTRICTED
from tests.control_plane.operator.world import World, new_world


@pytest.fixture
async def lenient_world(
    own_control_plane: ControlPlane, definition: dict[str, Any], arena: Arena
) -> AsyncIterator[World]:
    """A world whose API server takes any text for a handler."""
    lenient = copy.deepcopy(definition)
    (version,) = lenient["spec"]["versions"]
    del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["handler"]["pattern"]
    own_control_plane.install(lenient)
    own_control_plane.create_namespace("own", RESTRICTED)
    async with arena.ground(single) as ground, new_world(own_control_plane, "own", ground) as world:
        yield world


async def test_a_spec_that_only_the_model_refuses_is_reported_hurts_no_other_and_is_repaired(
    lenient_world: World,
) -> None:
    world = lenient_world
    await world.apply("bad", flow="fan", handler="whatever")
    reported = await world.until_condition("bad", "Ready", "False", "InvalidSpec")
    assert "spec.handler" in reported["message"]
    assert (await world.condition("bad", "Stalled"))["status"] == "True"
    await world.apply("good")
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    assert await world.deployments("bad") == []
    await world.apply("bad", flow="fan", handler="no_such_module:flow")
    await world.until_condition("bad", "Ready", "False", "BadHandler")
    assert world.operator.complaints() == []
