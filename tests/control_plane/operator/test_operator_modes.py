"""Who decides how many workers run."""

from testkit.support.waiting import until
from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import FLOWWORKERS, Object, World

from flowworker_operator.gather import replicas_set

SCALE = FLOWWORKERS + "/report/scale"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
AUTOSCALER: Object = {
    "metadata": {"name": "report"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "flowworker.dev/v1alpha1", "kind": "FlowWorker", "name": "report"},
        "maxReplicas": 3,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
            }
        ],
    },
}


async def test_the_scale_subresource_drives_external(world: World) -> None:
    await world.apply("report", scaling={"mode": "External"})
    await world.until_condition("report", "Ready", "True", "Running")
    await world.patch(FLOWWORKERS, "report/scale", {"spec": {"replicas": 2}})
    await world.until_replicas("report", 2)
    scale = await world.request("GET", SCALE)
    assert scale["status"]["selector"] == "flowworker.dev/name=report"
    await world.patch(FLOWWORKERS, "report/scale", {"spec": {"replicas": 0}})
    await world.until_idle("report")


async def test_an_autoscaler_is_able_to_scale_external(world: World) -> None:
    await world.apply("report", scaling={"mode": "External"})
    await world.request("POST", AUTOSCALERS, AUTOSCALER)

    async def able() -> bool:
        found = await world.find(AUTOSCALERS, "report")
        conditions = (found or {}).get("status", {}).get("conditions", ())
        return any((one["type"], one["status"]) == ("AbleToScale", "True") for one in conditions)

    await until(able, "the autoscaler is able to scale", patience=90)


async def test_external_begins_with_what_runs_and_auto_goes_on_from_there(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    for _ in range(8):
        await world.ground.start_run(single, Plan(gate="go"))
    await world.until_replicas("report", 2)
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"mode": "External"}}})
    await world.until_flowworker("report", lambda one: one["spec"]["replicas"] == 2, "2 as spec.replicas")
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"mode": "Auto"}}})
    await world.until_flowworker("report", lambda one: one["spec"]["replicas"] == 1, "1 as spec.replicas")
    assert await world.replicas("report") == 2
    assert (await world.condition("report", "ScaleIgnored"))["status"] == "False"
    world.ground.open_gate("go")
    await world.ground.conclude()
    await world.until_idle("report")


async def test_external_begins_with_what_runs_also_when_it_was_set_to_one_the_last_time(world: World) -> None:
    await world.apply("report", scaling={"mode": "External"})
    await world.patch(FLOWWORKERS, "report/scale", {"spec": {"replicas": 0}})
    await world.until_condition("report", "Ready", "True", "Idle")
    await world.patch(FLOWWORKERS, "report/scale", {"spec": {"replicas": 1}})
    await world.until_condition("report", "Ready", "True", "Running")
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"mode": "Auto", "minReplicas": 2}}})
    await world.until_replicas("report", 2)
    await world.until_flowworker("report", lambda one: not replicas_set(one), "nobody's number as spec.replicas")
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"mode": "External", "minReplicas": 0}}})
    await world.until_flowworker("report", lambda one: one["spec"]["replicas"] == 2, "2 as spec.replicas")
    assert await world.replicas("report") == 2


async def test_paused_changes_nothing_and_says_so(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"mode": "Paused"}}})
    await world.until_condition("report", "ScalingActive", "False", "Paused")
    await world.ground.start_run(single, Plan())
    await world.until_flowworker("report", lambda one: one["status"]["queue"]["startable"] == 1, "1 startable")
    assert (await world.condition("report", "Ready"))["reason"] == "Suspended"
    assert await world.replicas("report") == 0
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"mode": "Auto"}}})
    await world.ground.conclude()


async def test_a_dry_run_decides_and_changes_nothing(world: World) -> None:
    await world.apply("report", scaling={"mode": "DryRun", "maxReplicas": 3, "tasksPerReplica": 4})
    await world.until_condition("report", "Progressing", "Unknown", "Suspended")
    for _ in range(12):
        await world.ground.start_run(single, Plan())
    await world.until_flowworker("report", lambda one: one["status"]["scaling"]["desired"] == 3, "3 desired")
    assert await world.deployments("report") == []
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"mode": "Auto"}}})
    await world.ground.conclude()
