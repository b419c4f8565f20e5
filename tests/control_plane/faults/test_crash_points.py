"""Wherever the operator is killed in the middle of a change, the next one ends it as if nothing had happened.

The operator is killed with SIGKILL at one of its writes: when the API server has not heard of it yet, or when it has
done it and the operator does not know. FLOWWORKER_TEST_CRASH_POINTS=all tries every write, which takes half an hour;
else some are chosen by chance.
"""

from collections.abc import Callable

import pytest
from testkit.support.waiting import until
from tests.control_plane.faults.changes import NAME, Backlog, Change, Creation, NewTemplate, Recreation
from tests.control_plane.faults.rehearsal import Ending, Point, Rehearsal, points, sample
from tests.control_plane.faults.scene import Scene


@pytest.mark.parametrize("kind", [Creation, Recreation, NewTemplate, Backlog])
async def test_a_change_ends_the_same_wherever_the_operator_was_killed(
    scene: Scene, kind: Callable[[], Change]
) -> None:
    rehearsal = Rehearsal(scene=scene, change=kind())
    await scene.operator.start()
    peace = await rehearsal.in_peace()
    await follows(scene)
    survived = 0
    for point in sample(points(peace.labels)):
        ending = await rehearsal.disturbed(point, peace)
        if ending is not None:
            same(point, ending, peace)
            survived += 1
    assert survived
    await follows(scene)
    await scene.world.ground.conclude()
    assert {execution.attempt for execution in scene.world.ground.executions()} <= {1}


def same(point: Point, ending: Ending, peace: Ending) -> None:
    """The same was created and deleted; one call, whose answer was lost, may have been made twice."""
    assert ending.done == peace.done, f"{point}: {ending}"
    again = ending.tried - peace.tried
    assert again.total() <= 1, f"{point}: {again} were made again"


async def follows(scene: Scene) -> None:
    """Numbers in the status follow within some seconds."""

    async def right() -> bool:
        status = (await scene.world.flowworker(NAME))["status"]
        numbers = {
            status["replicas"],
            status["readyReplicas"],
            status["workers"]["total"],
            status["workers"]["running"],
        }
        return numbers == {1} and status["queue"]["startable"] == status["queue"]["inFlight"] == 0

    await until(right, "the status has the right numbers")
