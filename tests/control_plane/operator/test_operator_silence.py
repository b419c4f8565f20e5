"""An operator with nothing to do writes nothing, and shows what it knows."""

from testkit.support.waiting import hold_for
from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import FLOWWORKERS, World

WINDOW = 20.0
"""Seconds: two of the shortest interval between writes of mere numbers."""


async def test_nothing_is_written_while_nothing_happens(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    await hold_for(3)  # the last numbers and events
    before = len(world.writes(world.operator.user))
    await hold_for(WINDOW)
    written = world.writes(world.operator.user)[before:]
    assert written == []


async def test_nothing_is_written_while_a_worker_waits_for_work(world: World) -> None:
    await world.apply("report", scaling={"minReplicas": 1})
    await world.until_condition("report", "Ready", "True", "Running")
    await hold_for(12)
    before = len(world.writes(world.operator.user))
    await hold_for(WINDOW)
    assert world.writes(world.operator.user)[before:] == []


async def test_what_is_asked_of_the_api_server_is_what_the_chart_allows(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    await world.until_idle("report")
    refused = [one for one in world.audited(world.operator.user) if one["responseStatus"]["code"] == 403]
    assert refused == []


async def test_metrics_follow_the_resource_and_go_with_it(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    labels = f'flowworker="report",namespace="{world.namespace}"'
    metrics = world.metrics()
    assert metrics[f"flowworker_operator_ready{{{labels}}}"] == 1
    assert metrics[f"flowworker_operator_desired_replicas{{{labels}}}"] == 0
    assert metrics["flowworker_operator_leader"] == 1
    await world.delete(FLOWWORKERS, "report")
    await world.until_metrics(lambda shown: not any('flowworker="report"' in name for name in shown))


async def test_health_is_served_over_http(world: World) -> None:
    assert world.operator.get("/livez") == (200, "alive\n")
    assert world.operator.get("/readyz") == (200, "ready\n")
    assert world.operator.get("/nothing")[0] == 404
