"""What belongs to a FlowWorker, what does not, and what is put right."""

import asyncio
from dataclasses import replace

from testkit.support.rights import rules
from testkit.support.waiting import hold_for, until
from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.world import BUDGETS, DEPLOYMENTS, EVENTS, FLOWWORKERS, World

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
POLICIES = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings"
TWO_LOOKS = 11.0
"""Seconds in which an operator with nothing to do looks at least twice."""


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
    condition = await world.until_condition("second", "Ready", "False", "OwnedElsewhere")
    assert "/first" in condition["message"]
    assert await world.deployments("second") == []
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    await world.delete(FLOWWORKERS, "first")
    await world.until_condition("second", "Ready", "True")


async def test_a_queue_with_the_name_of_a_flow_that_runs_is_refused_until_the_flow_goes(world: World) -> None:
    await world.apply("first")
    await world.until_idle("first")
    await world.apply("second", flow=None, queue="Single", handler="tests.chaos.workloads:jobs")
    shown = await world.until_condition("second", "Ready", "False", "OwnedElsewhere")
    assert "queue 'Single' has the queue of flow 'single'" in shown["message"]
    assert f"{world.namespace}/first" in shown["message"]
    assert await world.deployments("second") == []
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    await world.delete(FLOWWORKERS, "first")
    await world.until_condition("second", "Ready", "False", "BadHandler")


async def test_an_older_resource_of_another_namespace_stops_no_other(world: World, elsewhere: str) -> None:
    await world.operator.stop()
    operator = world.operator
    operator.settings["NAMESPACES"] = f"{world.namespace},{elsewhere}"
    await asyncio.to_thread(world.control_plane.user, operator.user, rules(), elsewhere)
    theirs = replace(world, namespace=elsewhere)
    await theirs.secret()
    await theirs.apply("older")
    await operator.start()
    await theirs.until_condition("older", "DatabaseReachable", "True")
    await world.apply("younger")
    await world.until_idle("younger")
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    await until(lambda: has_event(world, "SharedDatabase"), "there is an event of it")
    events = [one["message"] for one in await world.list(EVENTS) if one["reason"] == "SharedDatabase"]
    assert not any("older" in message or elsewhere in message for message in events), "nobody is named"


async def test_a_deployment_of_another_owner_in_our_way_is_reported_and_left_alone(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    (ours,) = await world.deployments("report")
    name = ours["metadata"]["name"]
    await world.operator.stop()
    await world.delete(DEPLOYMENTS, name)
    theirs = {"metadata": {"name": name, "labels": {"app": "theirs"}}, "spec": {**ours["spec"], "replicas": 0}}
    await world.until_created(DEPLOYMENTS, theirs)
    await world.operator.start()
    condition = await world.until_condition("report", "Ready", "False", "TemplateRefused")
    assert "belongs to another owner" in condition["message"]
    found = await world.find(DEPLOYMENTS, name)
    assert found is not None
    assert found["metadata"]["labels"] == {"app": "theirs"}


async def test_a_disruption_budget_of_another_owner_is_reported_and_left_alone(world: World) -> None:
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "theirs"}}}
    await world.request("POST", BUDGETS, {"metadata": {"name": "report"}, "spec": spec})
    await world.apply("report")
    await world.until_condition("report", "Ready", "True")
    await until(lambda: has_event(world, "BudgetInTheWay"), "there is an event of the budget in the way")
    found = await world.find(BUDGETS, "report")
    assert found is not None
    assert (found["spec"], found["metadata"].get("ownerReferences")) == (spec, None)
    await world.delete(BUDGETS, "report")

    async def ours() -> bool:
        made = await world.find(BUDGETS, "report")
        return made is not None and "ownerReferences" in made["metadata"]

    await until(ours, "the operator has made its own")


async def test_a_webhook_that_does_not_answer_holds_up_nothing_but_its_object(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    await world.request("POST", WEBHOOKS, dead_webhook(world.namespace))
    try:
        await world.patch(FLOWWORKERS, "report", {"spec": {"image": "localhost/flowworker:next"}})
        ready = await world.until_condition("report", "Ready", "False", "WebhookFailed")
        assert "failed calling webhook" in ready["message"]
        await world.ground.start_run(single, Plan())
        await world.ground.conclude()
    finally:
        await world.request("DELETE", f"{WEBHOOKS}/{world.namespace}")
    await world.until_condition("report", "Ready", "True")
    assert all(_image(one) == "localhost/flowworker:next" for one in await world.deployments("report"))


async def test_a_policy_that_changes_what_we_apply_is_not_fought(world: World) -> None:
    name = world.namespace
    await world.request("POST", POLICIES, service_links_policy(name))
    await world.request("POST", BINDINGS, binding(name))
    try:
        await world.apply("report")
        await world.until_idle("report")
        (made,) = await world.deployments("report")
        assert made["spec"]["template"]["spec"]["enableServiceLinks"] is True, "the policy is in force"
        await hold_for(TWO_LOOKS)
        before = await asyncio.to_thread(world.writes, world.operator.user)
        await hold_for(TWO_LOOKS)
        assert await asyncio.to_thread(world.writes, world.operator.user) == before
    finally:
        await world.request("DELETE", f"{BINDINGS}/{name}")
        await world.request("DELETE", f"{POLICIES}/{name}")


def service_links_policy(name: str) -> dict[str, object]:
    """A policy that changes a field of ours in every Deployment before it is stored."""
    changed = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{%s}}}}"
    return {
        "metadata": {"name": name},
        "spec": {
            "reinvocationPolicy": "Never",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["deployments"],
                    }
                ]
            },
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": changed % "enableServiceLinks: true"},
                }
            ],
        },
    }


def binding(name: str) -> dict[str, object]:
    """Puts a policy into force in the namespace of its name."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": name}}
    return {"metadata": {"name": name}, "spec": {"policyName": name, "matchResources": {"namespaceSelector": selector}}}


def dead_webhook(namespace: str) -> dict[str, object]:
    """A policy service that is down, and that has to be asked before a Deployment is created in a namespace."""
    return {
        "metadata": {"name": namespace},
        "webhooks": [
            {
                "name": "policy.example.org",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "timeoutSeconds": 1,
                "clientConfig": {"url": "https://127.0.0.1:9/policy"},
                "rules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["deployments"],
                    }
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            }
        ],
    }


async def has_event(world: World, reason: str) -> bool:
    """Whether there is an event of this reason."""
    return any(one["reason"] == reason for one in await world.list(EVENTS))


def _image(deployment: dict[str, object]) -> object:
    spec: object = deployment["spec"]
    return spec["template"]["spec"]["containers"][0]["image"]  # type: ignore[index]
