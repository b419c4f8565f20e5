"""What belongs to a FlowWorker, what does not, and what is put right."""

from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import BUDGETS, DEPLOYMENTS, FLOWWORKERS, World


async def test_drift_is_repaired_and_what_others_add_stays(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    (before,) = await world.deployments("report")
    name, template = before["metadata"]["name"], before["spec"]["template"]
    containers = [{**template["spec"]["containers"][0], "image": "evil.example/worker:1"}]
    await world.patch(
        DEPLOYMENTS,
        name,
        {
            "metadata": {"annotations": {"team.example/note": "ours"}, "labels": {"team": "web"}},
            "spec": {"template": {"spec": {"containers": containers}}},
        },
    )
    after = await world.until_deployment(name, lambda one: _image(one) == "localhost/flowworker:test")
    assert after["metadata"]["annotations"]["team.example/note"] == "ours"
    assert after["metadata"]["labels"]["team"] == "web"
    assert after["spec"]["replicas"] == 0


async def test_labels_and_owner_references_come_back(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    (before,) = await world.deployments("report")
    name = before["metadata"]["name"]
    await world.patch(DEPLOYMENTS, name, {"metadata": {"labels": {"flowworker.dev/name": None}}})
    await world.until_deployment(name, lambda one: one["metadata"]["labels"].get("flowworker.dev/name") == "report")
    await world.patch(DEPLOYMENTS, name, {"metadata": {"ownerReferences": None}})
    after = await world.until_deployment(name, lambda one: "ownerReferences" in one["metadata"])
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_deleted_deployment_and_a_deleted_budget_come_back(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    (before,) = await world.deployments("report")
    name = before["metadata"]["name"]
    await world.delete(DEPLOYMENTS, name)
    await world.delete(BUDGETS, "report")
    after = await world.until_deployment(name, lambda one: one["metadata"]["uid"] != before["metadata"]["uid"])
    assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
    await world.until_found(BUDGETS, "report")
    await world.until_idle("report")


async def test_a_resource_that_is_created_anew_under_its_name_starts_afresh(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    (before,) = await world.deployments("report")
    await world.delete(FLOWWORKERS, "report")
    await world.apply("report")
    again = await world.flowworker("report")
    name = before["metadata"]["name"]
    after = await world.until_deployment(name, lambda one: one["metadata"]["uid"] != before["metadata"]["uid"])
    assert after["metadata"]["ownerReferences"][0]["uid"] == again["metadata"]["uid"]
    await world.until_idle("report")
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()


async def test_the_younger_of_two_resources_for_one_flow_runs_nothing_until_the_older_goes(world: World) -> None:
    await world.apply("first")
    await world.until_idle("first")
    await world.apply("second")
    told = await world.until_condition("second", "Ready", "False", "OwnedElsewhere")
    assert "/first" in told["message"]
    assert await world.deployments("second") == []
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    await world.delete(FLOWWORKERS, "first")
    await world.until_condition("second", "Ready", "True")


async def test_a_deployment_of_somebody_else_in_our_way_is_told_and_left_alone(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    (ours,) = await world.deployments("report")
    name = ours["metadata"]["name"]
    await world.operator.stop()
    await world.delete(DEPLOYMENTS, name)
    theirs = {"metadata": {"name": name, "labels": {"app": "theirs"}}, "spec": {**ours["spec"], "replicas": 0}}
    await world.until_created(DEPLOYMENTS, theirs)
    await world.operator.start()
    told = await world.until_condition("report", "Ready", "False", "TemplateRefused")
    assert "belongs to somebody else" in told["message"]
    found = await world.find(DEPLOYMENTS, name)
    assert found is not None
    assert found["metadata"]["labels"] == {"app": "theirs"}


def _image(deployment: dict[str, object]) -> object:
    spec: object = deployment["spec"]
    return spec["template"]["spec"]["containers"][0]["image"]  # type: ignore[index]
