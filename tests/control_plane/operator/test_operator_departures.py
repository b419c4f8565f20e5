"""A FlowWorker that is deleted but held, and what a deleted one leaves behind."""

from testkit.support.waiting import until
from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import BUDGETS, DEPLOYMENTS, FLOWWORKERS, PODS, SHORT, World

HOLDER = "example.org/audit"


async def gone(world: World, name: str) -> None:
    """Wait until a FlowWorker is no more."""

    async def met() -> bool:
        return await world.find(FLOWWORKERS, name) is None

    await until(met, f"{name} is gone")


async def test_a_flow_worker_that_a_finalizer_holds_says_so_and_its_workers_finish_and_go(world: World) -> None:
    await world.apply("report", scaling={**SHORT, "minReplicas": 2, "maxReplicas": 2})
    await world.until_condition("report", "Ready", "True")
    await world.until_replicas("report", 2)
    await world.patch(FLOWWORKERS, "report", {"metadata": {"finalizers": [HOLDER]}})
    await world.ground.start_run(single, Plan(gate="go"))
    (began,) = await world.ground.began(1)
    await world.delete(FLOWWORKERS, "report")
    condition = await world.until_condition("report", "Ready", "False", "Terminating")
    assert HOLDER in condition["message"]
    await world.until_pods("report", {began.worker})
    world.ground.open_gate("go")
    await world.ground.drained()
    await world.until_pods("report", set())
    assert await world.replicas("report") == 0
    await world.patch(FLOWWORKERS, "report", {"metadata": {"finalizers": None}})
    await gone(world, "report")
    await world.ground.conclude()


async def test_workers_that_were_left_behind_go_on_under_the_next_flow_worker_of_the_name(world: World) -> None:
    scaling = {**SHORT, "minReplicas": 1, "maxReplicas": 2}
    await world.apply("report", scaling=scaling)
    await world.until_condition("report", "Ready", "True", "Running")
    await world.until_replaced("")
    (before,), (pod,) = await world.deployments("report"), await world.list(PODS)
    await world.request("DELETE", f"{FLOWWORKERS}/report", {"propagationPolicy": "Orphan"})
    await gone(world, "report")
    assert [one["metadata"]["uid"] for one in await world.list(PODS)] == [pod["metadata"]["uid"]]
    await world.apply("report", scaling=scaling)
    uid = (await world.flowworker("report"))["metadata"]["uid"]
    after = await world.until_deployment(before["metadata"]["name"], lambda one: owners(one) == [uid])
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    await world.until_condition("report", "Ready", "True", "Running")
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    assert [one["metadata"]["uid"] for one in await world.list(PODS)] == [pod["metadata"]["uid"]]

    async def budget_is_ours() -> bool:
        found = await world.find(BUDGETS, "report")
        return found is not None and owners(found) == [uid]

    await until(budget_is_ours, "the disruption budget is adopted too")
    # It is scaled and replaced like any other.
    await world.patch(FLOWWORKERS, "report", {"spec": {"image": "localhost/flowworker:next"}})

    async def replaced() -> bool:
        return await world.find(DEPLOYMENTS, before["metadata"]["name"]) is None

    await until(replaced, "the adopted revision has gone", patience=60)
    await world.until_condition("report", "Ready", "True", "Running")


def owners(item: dict[str, object]) -> list[str]:
    """Uids of the owners of an object."""
    metadata: object = item["metadata"]
    return [one["uid"] for one in metadata.get("ownerReferences", ())]  # type: ignore[attr-defined]
