"""What the chart and the plain manifests grant is what the operator uses, by the audit log of the API server."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from testkit.cluster.certificates import Authority
from testkit.support.api_calls import Answer, Call
from testkit.support.api_faults import Forward
from testkit.support.api_proxy import ApiProxy
from testkit.support.rights import ONLY_BY_ADMISSION, Right, granted, requested, rules
from testkit.support.waiting import until
from tests.chaos.workloads import Plan, single
from tests.control_plane.operator.test_operator_faults import owner, volume
from tests.control_plane.operator.world import (
    BUDGETS,
    DEPLOYMENTS,
    FLOWWORKERS,
    PODS,
    SHORT,
    Object,
    World,
)

from flowworker_operator.domain.naming import compiler_name, deployment_name
from flowworker_operator.gather import Design, design

PLAIN = Path(__file__).parents[3] / "deploy" / "flowworker.yaml"


def used(world: World, *, refused: bool = False) -> set[Right]:
    """What the operator has asked for, and was refused or not."""
    return requested(world.audited(world.operator.user), refused=refused)


async def with_owner(world: World) -> None:
    """A flow that has to be created, a new image, one worker less, and another mode."""
    await world.secret(world.ground.database.dsn, name="owner")
    spec = {"handler": "tests.control_plane.operator.flows:fresh", "flow": "fresh", "database": owner("owner")}
    await world.apply("fresh", **spec, scaling={"mode": "External"}, replicas=2)
    await world.until_replicas("fresh", 2)
    await world.until_condition("fresh", "Ready", "True", "Running")
    await world.patch(FLOWWORKERS, "fresh", {"spec": {"replicas": 1, "image": "localhost/flowworker:next"}})
    await world.until_replicas("fresh", 1, patience=60)
    await world.patch(FLOWWORKERS, "fresh", {"spec": {"replicas": 2, "scaling": {"mode": "Auto"}}})
    # Nothing follows the number any more, so that it goes back to its default.
    await world.until_flowworker("fresh", lambda one: one["spec"]["replicas"] == 1, "the default number")


async def with_budget(world: World) -> None:
    """A disruption budget that is made, mended and removed."""
    await world.apply("report", scaling={**SHORT, "maxReplicas": 2})
    await world.until_idle("report")
    await world.until_found(BUDGETS, "report")
    await world.patch(BUDGETS, "report", {"spec": {"maxUnavailable": 1}})
    await until(lambda: ("policy", "poddisruptionbudgets", "patch") in used(world), "it is mended")
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"maxReplicas": 1}}})
    await until(lambda: ("policy", "poddisruptionbudgets", "delete") in used(world), "it goes")


async def with_names_taken(world: World) -> None:
    """Names that others use, which the operator looks at, and a pod that hangs, whose events it reads."""
    await world.apply("hanging", flow="hanging", template=volume(secret={"secretName": "keys"}))
    for name, database in (("taken", None), ("compiled", owner("owner"))):
        spec: dict[str, Any] = {"flow": name, "scaling": {"mode": "Paused"}}
        await world.apply(name, **spec, **({} if database is None else {"database": database}))
        asked = design(await world.flowworker(name))
        assert isinstance(asked, Design)
        labels = {"app": "theirs"}
        container = {"name": "theirs", "image": "localhost/theirs:1"}
        metadata = {"name": compiler_name(name, asked.target), "labels": labels}
        pod: Object = {"metadata": metadata, "spec": restricted([container])}
        if database is None:
            template = {"metadata": {"labels": labels}, "spec": restricted([container])}
            pod = {"metadata": {"name": deployment_name(name, asked.target)},
                   "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}}  # fmt: skip
        await world.request("POST", PODS if database is not None else DEPLOYMENTS, pod)
        await world.patch(FLOWWORKERS, name, {"spec": {"scaling": {"mode": "Auto"}}})
    await world.until_condition("hanging", "Ready", "False", "BadSecret")
    await world.until_condition("taken", "Ready", "False", "TemplateRefused")
    await world.until_condition("compiled", "Ready", "False", "TemplateRefused")


def restricted(containers: Sequence[Object]) -> Object:
    """A pod's spec that a strict namespace lets in."""
    strict = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "containers": [{**one, "securityContext": strict} for one in containers],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }


@asynccontextmanager
async def through_a_proxy(world: World) -> AsyncGenerator[ApiProxy]:
    """The operator again, with the same rights, and a test that takes part in its requests."""
    operator, control_plane = world.operator, world.control_plane
    kubeconfig = await asyncio.to_thread(control_plane.user, operator.user, rules(), world.namespace)
    async with ApiProxy(kubeconfig, Authority.load(control_plane.layout, "ca")) as proxy:
        await operator.stop()
        operator.settings["KUBECONFIG"] = str(proxy.kubeconfig)
        await operator.start()
        yield proxy
        await operator.stop()


async def with_another_writing(world: World, proxy: ApiProxy) -> None:
    """A FlowWorker that is changed while its status is on its way."""

    async def too_late(_call: Call, forward: Forward) -> Answer:
        await world.patch(FLOWWORKERS, "report", {"metadata": {"labels": {"changed": "yes"}}})
        return await forward()

    def of_report(call: Call) -> bool:
        return call.resource == "flowworkers/status" and call.place.name == "report"

    overtaken = proxy.intercept(of_report, too_late, times=1)
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"minReplicas": 1}}})
    await until(lambda: [call for call in overtaken.calls if call.answer], "the write of the status is answered")
    assert [call.answer.status for call in overtaken.calls if call.answer] == [409]
    await until(lambda: ("flowworker.dev", "flowworkers", "get") in used(world), "it is read again")


async def with_the_same_again(world: World) -> None:
    """A number of workers that goes up and down, so that an event repeats itself."""
    for least in (0, 1, 0, 1):
        await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"minReplicas": least}}})
        await world.until_replicas("report", least)
    await until(lambda: ("", "events", "patch") in used(world), "an event is counted up")


async def test_the_rights_that_are_granted_are_those_that_are_used(world: World) -> None:
    await with_owner(world)
    await with_budget(world)
    await with_names_taken(world)
    async with through_a_proxy(world) as proxy:
        await with_another_writing(world, proxy)
        await with_the_same_again(world)
        await world.ground.start_run(single, Plan())
        await world.ground.conclude()
        given = granted(rules())
        assert used(world, refused=True) == set()
        assert given - used(world) == ONLY_BY_ADMISSION


def test_the_plain_manifests_grant_what_the_chart_does() -> None:
    roles = [
        item
        for item in yaml.safe_load_all(PLAIN.read_text())
        if item
        and item["kind"] in {"Role", "ClusterRole"}
        and item["metadata"]["name"].startswith("flowworker-operator")
    ]
    assert granted(rule for role in roles for rule in role["rules"]) == granted(rules())
