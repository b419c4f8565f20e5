"""What the operator may not see stops it nowhere else: namespaces and kinds are served each by itself."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from testkit.cluster.control_plane import DEFINITIONS, ControlPlane
from testkit.cluster.errors import ApiError
from testkit.support.rights import rules
from testkit.support.waiting import until
from tests.chaos.ground import Ground
from tests.chaos.workloads import Plan, single
from tests.control_plane.conftest import RESTRICTED
from tests.control_plane.operator.world import FLOWWORKERS, SECRET, Object, World, manifest, new_world
from tests.control_plane.operator_process import OperatorProcess

ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/{other}/roles"


@pytest.fixture
def other(control_plane: ControlPlane) -> Iterator[str]:
    """One more namespace, whose RoleBinding a test may take away."""
    name = f"other-{uuid4().hex[:10]}"
    control_plane.create_namespace(name, RESTRICTED)
    yield name
    control_plane.api.delete(f"/api/v1/namespaces/{name}")


async def of_both(world: World, other: str, identity: str = "operator-1") -> OperatorProcess:
    """An operator of both namespaces in place of the first one, started."""
    await world.operator.stop()
    operator = world.another_operator(identity, NAMESPACES=f"{world.namespace},{other}", RELIST_SECONDS="3")
    world.operators.remove(operator)
    world.operators.insert(0, operator)
    await permit(world, operator, other, rules())
    await operator.start()
    return operator


async def permit(world: World, operator: OperatorProcess, namespace: str, given: Sequence[Object]) -> None:
    """Let an operator do this in a namespace, and nothing else there; its kubeconfig stays as good as it was."""
    role = {"metadata": {"name": operator.user}, "rules": list(given)}
    bind = {
        "metadata": {"name": operator.user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": operator.user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": operator.user}],
    }
    base = ROLES.format(other=namespace)
    for place, content in ((base, role), (f"{base.removesuffix('roles')}rolebindings", bind)):
        await world.delete(place, operator.user)
        await world.request("POST", place, content)


async def with_secret(world: World, namespace: str) -> None:
    """The Secret of the workers in another namespace."""
    encoded = base64.b64encode(world.ground.database.worker_dsn.encode()).decode()
    content = {"metadata": {"name": SECRET}, "data": {"uri": encoded}}
    await world.request("POST", f"/api/v1/namespaces/{namespace}/secrets", content)


async def ready_in(world: World, namespace: str, name: str) -> Object:
    """The condition Ready of a FlowWorker elsewhere; empty while there is none."""
    found = await world.request("GET", f"{FLOWWORKERS.format(namespace=namespace)}/{name}")
    nothing: Object = {}
    conditions: Sequence[Object] = found.get("status", nothing).get("conditions", ())
    return next((one for one in conditions if one["type"] == "Ready"), nothing)


async def test_a_namespace_that_was_deleted_stops_the_service_of_no_other(world: World, other: str) -> None:
    operator = await of_both(world, other)
    await world.apply("report")
    await world.until_idle("report")
    await permit(world, operator, other, [])
    await world.delete("/api/v1/namespaces", other)
    await operator.stop()
    await operator.start()
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()
    status, text = operator.get("/readyz")
    assert status == 200
    assert f"cannot list flowworkers in {other}" in text
    label = f'{{namespace="{other}",resource="pods"}}'
    await world.until_metrics(lambda shown: shown.get(f"flowworker_operator_unreadable{label}") == 1)
    # Its watches are those of the namespace that is left: a change is seen at once, not at a re-list alone.
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"minReplicas": 1}}})
    await world.until_replicas("report", 1)


async def test_a_kind_that_is_refused_is_shown_and_served_once_it_is_allowed(world: World, other: str) -> None:
    operator = await of_both(world, other)
    await with_secret(world, other)
    await permit(world, operator, other, [one for one in rules() if one["resources"] != ["pods"]])
    await until(lambda: "cannot list pods" in operator.get("/readyz")[1], "the refusal is shown")
    await world.request("POST", FLOWWORKERS.format(namespace=other), manifest("there"))

    async def reported() -> bool:
        return (await ready_in(world, other, "there")).get("reason") == "AccessMissing"

    await until(reported, "the FlowWorker says what the operator may not do")
    assert f"pods in {other}" in (await ready_in(world, other, "there"))["message"]
    await permit(world, operator, other, rules())

    async def works() -> bool:
        return (await ready_in(world, other, "there")).get("reason") == "Proving"

    await until(works, "it is served", patience=60)
    await until(lambda: operator.get("/readyz") == (200, "ready\n"), "nothing is refused any more")


async def test_a_leader_that_may_see_nothing_gives_the_lease_back(world: World, other: str) -> None:
    first = await of_both(world, other)
    await until(lambda: world.holder().startswith("operator-1"), "the first one leads")
    second = world.another_operator("operator-2", RELIST_SECONDS="3")
    await second.start()
    lease = [one for one in rules() if one["resources"] == ["leases"]]
    await permit(world, first, other, [])
    await permit(world, first, world.namespace, lease)
    await until(lambda: world.holder().startswith("operator-2"), "the other one leads", patience=60)
    assert first.get("/readyz")[0] == 503
    await world.apply("report")
    await world.until_idle("report")


@pytest.fixture
async def broken(own_control_plane: ControlPlane, ground: Ground) -> AsyncIterator[World]:
    """A world on a control plane of its own, whose operator must not count on a re-list."""
    namespace = f"test-{uuid4().hex[:10]}"
    own_control_plane.create_namespace(namespace, RESTRICTED)
    async with new_world(own_control_plane, namespace, ground) as world:
        await world.operator.stop()
        world.operator.settings["RELIST_SECONDS"] = "600"
        yield world


async def without_definition(world: World, definition: Object) -> None:
    """Delete the CRD; returns once nothing is served under it."""
    await world.delete(DEFINITIONS, definition["metadata"]["name"])

    async def gone() -> bool:
        try:
            await world.list(FLOWWORKERS)
        except ApiError:
            return True
        return False

    await until(gone, "the API server knows the kind no more")


async def created_anew(world: World, definition: Object) -> None:
    """Delete the CRD and create it again; returns once the operator watches."""
    await without_definition(world, definition)
    # Mostly at once; but the API server does not always end a watch of what is gone, and then the watch does.
    await until(lambda: world.operator.get("/readyz")[0] == 503, "it knows that it serves nothing", patience=90)
    await asyncio.to_thread(world.control_plane.install, definition)
    await until(lambda: world.operator.get("/readyz")[0] == 200, "it watches again")


async def test_changes_are_seen_at_once_after_the_definition_was_created_anew(
    broken: World, definition: Object
) -> None:
    world = broken
    await world.operator.start()
    await world.apply("report")
    await world.until_idle("report")
    await created_anew(world, definition)
    await world.apply("report", scaling={"minReplicas": 1})
    # The garbage collector first removes what belonged to the resource before, and learns of kinds every 30 s.
    await world.until_replicas("report", 1, patience=120)
    await world.patch(FLOWWORKERS, "report", {"spec": {"scaling": {"minReplicas": 2}}})
    await world.until_replicas("report", 2)


async def test_a_definition_that_is_created_anew_again_and_again_leaves_no_watches_behind(
    broken: World, definition: Object
) -> None:
    """Neither watches of other kinds without a reader, nor the thread they are in."""
    world = broken
    await world.operator.start()
    await created_anew(world, definition)
    settled = threads(world)
    for _ in range(2):
        await created_anew(world, definition)
    await until(lambda: threads(world) <= settled, "the threads of the watches before have ended")


def threads(world: World) -> int:
    """Threads of the operator."""
    return len(list(Path(f"/proc/{world.operator.pid}/task").iterdir()))


async def test_a_definition_that_comes_after_the_operator_is_watched_from_then_on(
    broken: World, definition: Object
) -> None:
    world = broken
    await without_definition(world, definition)
    await world.operator.launch()
    await until(lambda: "the CRD is missing" in world.operator.get("/readyz")[1], "it says what is missing")
    await asyncio.to_thread(world.control_plane.install, definition)
    await until(lambda: world.operator.get("/readyz")[0] == 200, "it watches")
    await world.apply("report")
    await world.until_idle("report")
