"""An API server that refuses, fails or is away: the operator neither gives up nor hurries, and does nothing twice."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from testkit.support.api_calls import Call, writes
from testkit.support.api_faults import Handling, answers, does_and_answers, resets
from testkit.support.api_proxy import busiest_second
from testkit.support.proxy import Weather
from testkit.support.waiting import hold_for, until
from tests.control_plane.faults.changes import NAME, SCALING, runs_one
from tests.control_plane.faults.scene import Scene
from tests.control_plane.operator.world import FLOWWORKERS

STORM = 10.0
AWAY = 20.0
BACK_WITHIN = 30.0
"""Seconds in which everything is as it should be once the API server is well again."""
CALM = 60
"""Most requests of one operator within a second of an outage: everything fails at once, and is tried again once."""
RATE = 8.0
"""Most requests per second over a whole outage."""


@pytest.mark.parametrize(
    "handling", [answers(409), answers(429, retry_after=1), answers(500), resets(), does_and_answers(504)],
    ids=["conflict", "too many requests", "internal error", "reset", "done but timed out"],
)  # fmt: skip
async def test_errors_of_single_writes_cost_no_more_than_time(scene: Scene, handling: Handling) -> None:
    scene.proxy.intercept(every_third(writes), handling)
    await scene.operator.start()
    await scene.world.apply(NAME, scaling=SCALING)
    await works(scene)
    assert created_once(scene.proxy.writes)


async def test_a_conflict_that_does_not_end_is_no_hot_loop(scene: Scene) -> None:
    await scene.operator.start()
    began = time.monotonic()
    scene.proxy.intercept(writes, answers(409))
    await scene.world.apply(NAME, scaling=SCALING)
    await hold_for(5)
    assert busiest_second(scene.proxy.since(began)) <= CALM
    scene.proxy.withdraw()
    await works(scene)
    assert created_once(scene.proxy.writes)


async def test_a_storm_of_server_errors_passes(scene: Scene) -> None:
    await scene.operator.start()
    began = time.monotonic()
    scene.proxy.intercept(every_third(lambda _: True), answers(503, retry_after=1))
    scene.proxy.intercept(lambda _: True, answers(500))
    scene.proxy.reset()
    await scene.world.apply(NAME, scaling=SCALING)
    await hold_for(STORM)
    assert is_patient(scene.proxy.since(began), STORM)
    scene.proxy.withdraw()
    await works(scene)
    assert created_once(scene.proxy.writes)


async def test_what_changed_while_the_api_server_was_away_is_done_afterwards(scene: Scene) -> None:
    await scene.operator.start()
    await scene.world.apply(NAME, scaling=SCALING)
    await works(scene)
    scene.proxy.weather = Weather.REFUSED
    began = time.monotonic()
    await scene.world.patch(FLOWWORKERS, NAME, {"spec": {"image": "localhost/flowworker:next"}})
    await hold_for(AWAY)
    assert is_patient(scene.proxy.since(began), AWAY)
    scene.proxy.weather = Weather.CLEAR
    await works(scene, image="localhost/flowworker:next")
    assert counted(scene.proxy.writes) == {"create deployments": 2, "delete deployments": 1}


async def works(scene: Scene, image: str = "localhost/flowworker:test") -> None:
    """Wait for one worker of an image, no longer than an operator may take."""

    async def reached() -> bool:
        deployments = await scene.world.deployments(NAME)
        images = [one["spec"]["template"]["spec"]["containers"][0]["image"] for one in deployments]
        return images == [image] and await runs_one(scene.world)

    try:
        await until(reached, "one worker runs", patience=BACK_WITHIN)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{await scene.world.report()}") from None


def every_third(matches: Callable[[Call], bool]) -> Callable[[Call], bool]:
    """The third of those that match, the sixth, and so on."""
    numbers = itertools.count(1)
    return lambda call: matches(call) and next(numbers) % 3 == 0


def counted(calls: Sequence[Call]) -> Counter[str]:
    """Deployments that were created and deleted."""
    return Counter(call.label for call in calls if call.done and call.verb in {"create", "delete"}) & Counter(
        {"create deployments": 99, "delete deployments": 99}
    )


def created_once(calls: Sequence[Call]) -> bool:
    """Whether one Deployment was created, and none deleted."""
    return counted(calls) == {"create deployments": 1}


def is_patient(calls: Sequence[Call], seconds: float) -> bool:
    """Whether a server that comes back would not be overrun; says how it was."""
    worst, rate = busiest_second(calls), len(calls) / seconds
    print(f"{worst} requests in the busiest second, {rate:.1f}/s: {Counter(call.label for call in calls)}")
    return worst <= CALM and rate <= RATE
