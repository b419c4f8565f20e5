"""Two operators that do not see the same network: one acts at a time, and what comes late changes nothing."""

import asyncio
import time

from testkit.support.api_calls import Answer, Call
from testkit.support.api_faults import Forward
from testkit.support.proxy import Weather
from testkit.support.waiting import hold_for, until
from tests.control_plane.faults.changes import NAME, SCALING, with_one
from tests.control_plane.faults.scene import Scene
from tests.control_plane.operator.world import FLOWWORKERS, LEASES
from tests.control_plane.operator_process import LEASE

TAKEN_OVER_WITHIN = 20.0


async def test_a_leader_that_is_cut_off_is_succeeded_and_stays_silent_when_it_is_back(scene: Scene) -> None:
    world, first = scene.world, scene.operator
    await first.start()
    await with_one(world)
    second = await scene.add_operator("operator-1")
    await second.start()
    scene.proxies[0].weather = Weather.SWALLOWED
    began = time.monotonic()
    await until(lambda: "operator-1" in world.holder(), "the second leads", patience=60)
    assert time.monotonic() - began <= TAKEN_OVER_WITHIN
    await world.patch(FLOWWORKERS, NAME, {"spec": {"scaling": {"minReplicas": 2}}})
    await world.until_replicas(NAME, 2)
    scene.proxies[0].weather = Weather.CLEAR
    scene.proxies[0].reset()
    await world.patch(FLOWWORKERS, NAME, {"spec": {"scaling": {"minReplicas": 1}}})
    await world.until_replicas(NAME, 1)
    await hold_for(3)
    assert [user for user in writers_in_turn(scene) if user] == [first.user, second.user]


async def test_a_write_that_was_on_its_way_when_the_leader_changed_does_nothing(scene: Scene) -> None:
    world, first = scene.world, scene.operator
    await first.start()
    await with_one(world)
    second = await scene.add_operator("operator-1")
    await second.start()
    arrives = asyncio.Event()

    async def slow(_call: Call, forward: Forward) -> Answer:
        await arrives.wait()
        return await forward()

    late = scene.proxies[0].intercept(lambda call: call.label == "patch deployments", slow, times=1)
    await world.patch(FLOWWORKERS, NAME, {"spec": {"scaling": {"minReplicas": 2}}})
    await until(lambda: late.calls, "the leader scales")
    scene.proxies[0].weather = Weather.SWALLOWED
    await until(lambda: "operator-1" in world.holder(), "the second leads", patience=60)
    await world.until_replicas(NAME, 2)
    await world.patch(FLOWWORKERS, NAME, {"spec": {"scaling": {"minReplicas": 1}}})
    await world.until_replicas(NAME, 1)
    arrives.set()
    await until(lambda: late.happened.is_set() or late.calls[0].answer, "the late write has arrived")
    answer = late.calls[0].answer
    assert answer is not None
    assert answer.status == 409
    assert await world.replicas(NAME) == 1


async def test_a_leader_whose_lease_is_taken_by_a_person_stops_at_its_next_look(scene: Scene) -> None:
    world, first = scene.world, scene.operator
    await first.start()
    await with_one(world)
    await world.patch(LEASES, LEASE, {"spec": {"holderIdentity": "a person", "leaseDurationSeconds": 60}})
    await until(lambda: first.get("/metrics")[1].find("flowworker_operator_leader 0") > 0, "it does not lead")
    begun = len(scene.proxy.writes)
    await world.apply("another", flow="other", scaling=SCALING)
    await hold_for(3)
    assert scene.proxy.writes[begun:] == []


def writers_in_turn(scene: Scene) -> list[str]:
    """Users of operators in the order of their writes, each change of hands once."""
    requests = sorted(
        (one for operator in scene.world.operators for one in scene.world.audited(operator.user)),
        key=lambda one: one["requestReceivedTimestamp"],
    )
    written = [
        one["user"]["username"]
        for one in requests
        if one["verb"] in {"create", "patch", "delete"} and one["objectRef"]["resource"] != "leases"
    ]
    return [user for user, before in zip(written, ["", *written], strict=False) if user != before]
