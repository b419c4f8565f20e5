"""Watches that fall silent, expire or lose events, and lists that show the past."""

from testkit.support.api_calls import Answer, Call, Object
from testkit.support.api_faults import Forward, answers
from testkit.support.api_proxy import Fate, lenient
from testkit.support.waiting import until
from tests.control_plane.faults.changes import NAME, SCALING, owners, runs_one, with_one
from tests.control_plane.faults.rehearsal import picture
from tests.control_plane.faults.scene import Scene
from tests.control_plane.operator.world import DEPLOYMENTS, FLOWWORKERS, PODS

WATCHED = 4
"""Kinds that an operator watches."""


def silent(_call: Call, _event: Object) -> Fate:
    return Fate.DROP


def without_deletions(_call: Call, event: Object) -> Fate:
    return Fate.DROP if event["type"] == "DELETED" else Fate.PASS


async def test_an_operator_whose_watches_fall_silent_goes_on(scene: Scene) -> None:
    await scene.operator.start()
    scene.proxy.judge = silent
    await scene.world.apply(NAME, scaling=SCALING)
    await until(lambda: runs_one(scene.world), "one worker runs", patience=60)
    await scene.world.patch(FLOWWORKERS, NAME, {"spec": {"scaling": {"minReplicas": 2}}})
    await scene.world.until_replicas(NAME, 2)


async def test_watches_that_expire_again_and_again_are_opened_anew(scene: Scene) -> None:
    await scene.operator.start()
    await until(lambda: scene.proxy.open_watches == WATCHED, "all watches are open")
    await scene.world.apply(NAME, scaling=SCALING)
    for _ in range(4):
        await until(lambda: scene.proxy.open_watches == WATCHED, "all watches are open")
        assert await scene.proxy.expire_watches() == WATCHED
    await until(lambda: runs_one(scene.world), "one worker runs", patience=60)
    await until(lambda: scene.proxy.open_watches == WATCHED, "all watches are open")


async def test_pods_whose_deletion_no_watch_delivered_are_not_counted(scene: Scene) -> None:
    world = scene.world
    await scene.operator.start()
    await with_one(world)
    scene.proxy.judge = without_deletions
    (lost,) = await world.list(PODS)
    await world.lose_pod(lost["metadata"]["name"])

    async def counts_the_living() -> bool:
        workers = (await world.flowworker(NAME))["status"]["workers"]
        pods = {pod["metadata"]["name"] for pod in await world.list(PODS)} - {lost["metadata"]["name"]}
        return {entry["pod"] for entry in workers["list"]} == pods and workers["running"] == 1

    await until(counts_the_living, "the status tells of one worker", patience=60)


async def test_a_resource_whose_deletion_no_watch_delivered_is_forgotten(scene: Scene) -> None:
    await scene.operator.start()
    await with_one(scene.world)
    scene.proxy.judge = without_deletions
    await scene.world.delete(FLOWWORKERS, NAME)
    await scene.world.until_metrics(lambda shown: not any(f'flowworker="{NAME}"' in name for name in shown))


class Past:
    """The last lists that were answered until now, to be answered again."""

    def __init__(self, scene: Scene) -> None:
        self._answers = {call.label: call.answer for call in scene.proxy.calls if call.verb == "list" and call.resource}
        self.repeated: set[str] = set()

    async def handle(self, call: Call, forward: Forward) -> Answer | None:
        self.repeated.add(call.label)
        return self._answers.get(call.label) or await forward()

    @staticmethod
    def matches(call: Call) -> bool:
        return call.verb == "list" and bool(call.resource)


async def test_an_operator_that_starts_with_the_past_deletes_nothing_new(scene: Scene) -> None:
    """What it takes for an old Deployment, of no more use, was deleted and created anew, and works."""
    world, proxy = scene.world, scene.proxy
    await scene.operator.start()
    await with_one(world)
    kept = proxy.intercept(lambda call: call.label == "delete deployments", answers(503))
    await world.patch(FLOWWORKERS, NAME, {"spec": {"image": "localhost/flowworker:next"}})
    await until(lambda: kept.calls, "the old Deployment is to be deleted")
    await relisted(scene)
    past = Past(scene)
    proxy.withdraw()
    await world.delete(FLOWWORKERS, NAME)
    await world.apply(NAME, scaling=SCALING)
    await belongs_to_the_newest(scene)
    before, begun = await restarted_in(past, scene)
    mistaken = await until(
        lambda: [call for call in proxy.writes[begun:] if is_destructive(call) and call.answer],
        "it wants to delete the Deployment",
    )
    await returned(scene)
    assert [call.answer and call.answer.status for call in mistaken] == [409] * len(mistaken)
    assert await identities(scene) == before
    assert all(is_guarded(call) for call in proxy.writes[begun:] if is_destructive(call))


async def test_an_operator_that_starts_before_it_can_see_anything_creates_nothing_twice(scene: Scene) -> None:
    await scene.operator.start()
    past = Past(scene)
    await with_one(scene.world)
    before, begun = await restarted_in(past, scene)
    await until(lambda: len(past.repeated) == WATCHED, "it was told that there is nothing")
    await returned(scene)
    assert await identities(scene) == before
    assert not [call for call in scene.proxy.writes[begun:] if is_destructive(call)]


async def test_one_old_list_in_the_middle_destroys_nothing(scene: Scene) -> None:
    world = scene.world
    await scene.operator.start()
    await relisted(scene)
    past = Past(scene)
    await with_one(world)
    before, right, begun = await identities(scene), await picture(world), len(scene.proxy.writes)
    for label in ("deployments", "pods"):
        scene.proxy.intercept(lambda call, label=label: call.label == f"list {label}", past.handle, times=1)
    await until(lambda: len(past.repeated) == 2, "it was told of the past")

    async def is_right_again() -> bool:
        return await picture(world) == right

    await relisted(scene)
    await relisted(scene)
    await until(is_right_again, "everything is as before")
    assert await identities(scene) == before
    assert all(is_guarded(call) for call in scene.proxy.writes[begun:] if is_destructive(call))


async def restarted_in(past: Past, scene: Scene) -> tuple[set[str], int]:
    """Start the operator with nothing but the past to see; answers what there is, and how many writes there were."""
    scene.operator.kill()
    await scene.operator.ended()
    before, begun = await identities(scene), len(scene.proxy.writes)
    scene.proxy.intercept(past.matches, past.handle)
    scene.proxy.judge = silent
    await scene.succeed()
    return before, begun


async def returned(scene: Scene) -> None:
    """Let it see the present, and wait until it has understood."""
    scene.proxy.withdraw()
    scene.proxy.judge = lenient
    await relisted(scene)
    await belongs_to_the_newest(scene)


async def belongs_to_the_newest(scene: Scene) -> None:
    """Wait until all is well with the FlowWorker that there is now."""

    async def reached() -> bool:
        uid = (await scene.world.flowworker(NAME))["metadata"]["uid"]
        return await runs_one(scene.world) and await owners(scene.world) == {uid}

    await until(reached, "one worker of the newest FlowWorker runs", patience=60)


async def relisted(scene: Scene) -> None:
    """Wait until everything was listed once more."""
    begun = len(scene.proxy.calls)

    def complete() -> bool:
        listed = [call for call in scene.proxy.calls[begun:] if call.verb == "list" and call.done]
        return len({call.label for call in listed}) >= WATCHED

    await until(complete, "everything is listed")


async def identities(scene: Scene) -> set[str]:
    """Uids of Deployments and pods."""
    world = scene.world
    return {item["metadata"]["uid"] for place in (DEPLOYMENTS, PODS) for item in await world.list(place)}


def is_destructive(call: Call) -> bool:
    """Whether a call deletes something, or workers."""
    return call.verb == "delete" or ("replicas" in call.body.get("spec", ()) and call.verb == "patch")


def is_guarded(call: Call) -> bool:
    """Whether a call says which object, or which version of it, it is about."""
    nothing: Object = {}
    guards = call.body.get("preconditions", nothing) | call.body.get("metadata", nothing)
    return "uid" in guards or "resourceVersion" in guards
