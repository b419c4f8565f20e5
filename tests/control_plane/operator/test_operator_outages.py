"""Databases and API servers that go away and come back: nothing is lost meanwhile, and recovery needs no hand."""

import time
from collections.abc import AsyncIterator

import pytest
from testkit.cluster.control_plane import ControlPlane
from testkit.support.proxy import Weather
from testkit.support.waiting import hold_for
from tests.chaos.arena import Arena
from tests.chaos.ground import Ground
from tests.chaos.workloads import Plan, fan, jobs, single
from tests.control_plane.conftest import RESTRICTED
from tests.control_plane.operator.world import FLOWWORKERS, PODS, World, new_world
from tests.control_plane.process_pod import MISSING_IMAGE

WAKES_WITHIN = 4.0
"""Seconds; half a second on a machine that does little else, where a round that waits for a database takes six."""

LONG = 90.0
"""Seconds for what includes a lease that has to run out, or a server that starts."""


async def test_a_database_that_is_away_freezes_its_workers_and_no_others(world: World) -> None:
    proxy = world.ground.proxy
    await world.secret(proxy.dsn(world.ground.database.worker_dsn), name="through-proxy")
    through = {"secretRef": {"name": "through-proxy"}}
    await world.apply("away", flow=None, queue="jobs", handler="tests.chaos.workloads:jobs", database=through)
    await world.apply("near")
    await world.until_idle("away")
    await world.until_idle("near")
    for _ in range(4):
        await world.ground.send(jobs, Plan(gate="go"))
    await world.until_replicas("away", 1)
    proxy.weather = Weather.REFUSED
    condition = await world.until_condition("away", "DatabaseReachable", "False", "DatabaseUnreachable")
    assert "no answer from" in condition["message"]
    await world.ground.start_run(single, Plan())
    await world.until_replicas("near", 1)
    assert await world.replicas("away") == 1
    proxy.weather = Weather.CLEAR
    world.ground.open_gate("go")
    await world.until_condition("away", "DatabaseReachable", "True")
    await world.ground.drained()
    await world.until_idle("away", patience=LONG)


async def test_a_database_that_hangs_while_its_pods_go_delays_no_other(world: World) -> None:
    proxy = world.ground.proxy
    await world.secret(proxy.dsn(world.ground.database.worker_dsn), name="through-proxy")
    hanging = [f"hanging-{number}" for number in range(12)]
    for name in hanging:
        await world.apply(
            name, flow=None, queue=name.replace("-", "_"), database={"secretRef": {"name": "through-proxy"}},
            image=f"{MISSING_IMAGE}worker:1",
        )  # fmt: skip
    await world.apply("near")
    await world.until_idle("near")
    for name in hanging:
        await world.until_condition(name, "DatabaseReachable", "True")
    pods = await world.until_pods_of(hanging)
    proxy.weather = Weather.SWALLOWED
    for pod in pods:
        await world.request("DELETE", f"{PODS}/{pod}", {"gracePeriodSeconds": 0})
    await world.ground.start_run(single, Plan())
    began = time.monotonic()
    await world.until_replicas("near", 1)
    assert time.monotonic() - began < WAKES_WITHIN
    await world.ground.drained()
    proxy.weather = Weather.CLEAR
    for name in hanging:
        await world.until_condition(name, "DatabaseReachable", "True", patience=LONG)


async def test_a_rotated_secret_needs_no_restart(world: World) -> None:
    proxy = world.ground.proxy
    await world.secret(proxy.dsn(world.ground.database.worker_dsn))
    await world.apply("report")
    await world.until_idle("report")
    proxy.weather = Weather.REFUSED
    await world.until_condition("report", "DatabaseReachable", "False")
    await world.secret()
    await world.until_condition("report", "Ready", "True")
    await world.ground.start_run(single, Plan())
    await world.ground.drained()


@pytest.fixture
async def own_world(own_control_plane: ControlPlane, arena: Arena) -> AsyncIterator[World]:
    """A world whose control plane may be broken."""
    own_control_plane.create_namespace("own", RESTRICTED)
    async with arena.ground(single, fan, jobs) as ground, new_world(own_control_plane, "own", ground) as world:
        yield world


async def test_an_api_server_that_restarts_in_the_middle_costs_nothing(own_world: World) -> None:
    world = own_world
    await world.apply("report")
    await world.until_idle("report")
    for _ in range(8):
        await world.ground.start_run(single, Plan(seconds=0.5))
    await world.until_replicas("report", 2)
    world.control_plane.restart("kube-apiserver")
    await world.ground.conclude(patience=LONG)
    await world.until_idle("report", patience=LONG)
    assert {execution.attempt for execution in world.ground.executions()} == {1}
    assert world.operator.complaints() == []


async def test_workers_work_while_the_api_server_is_away_and_what_changed_is_seen_afterwards(own_world: World) -> None:
    world, ground = own_world, own_world.ground
    await world.apply("report", scaling={"minReplicas": 1})
    await world.until_condition("report", "Ready", "True", "Running")
    world.control_plane.stop("kube-apiserver")
    await _work(ground, 5)
    await hold_for(12)  # longer than a leader may go on without renewing
    world.control_plane.start("kube-apiserver")
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"minReplicas": 2}}})
    await world.until_replicas("report", 2, patience=LONG)
    assert world.operator.complaints() == []


async def _work(ground: Ground, runs: int) -> None:
    for _ in range(runs):
        await ground.start_run(single, Plan())
    await ground.drained()
