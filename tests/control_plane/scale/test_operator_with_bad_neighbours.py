"""Databases that answer late or not at all, and the FlowWorkers of others. `make bench-operator` has five hundred."""

import random

from testkit.cluster.control_plane import ControlPlane
from tests.chaos.arena import Arena
from tests.control_plane.scale.neighbours import LATENCY, new_neighbours

from flowworker.bench.figures import percentile
from flowworker_operator.cluster.lease import Timing

TIMES = 24
EVERY = 0.7
LATER = LATENCY
"""Seconds by which the others may wake later than before, on a machine that may do much else; half of what a slow
database takes for one answer."""


async def test_a_fifth_of_silent_and_a_fifth_of_slow_databases_delay_no_others(
    control_plane: ControlPlane, arena: Arena
) -> None:
    chance = random.Random(11)
    async with new_neighbours(control_plane, arena, silent=12, slow=12, good=36) as neighbours:
        before = await neighbours.wake(TIMES, EVERY, chance)
        await neighbours.spoil()
        after = await neighbours.wake(TIMES, EVERY, chance)
    assert percentile(after.took, 0.5) <= percentile(before.took, 0.5) + LATER / 2, (before, after)
    assert max(after.took) <= max(before.took) + LATER, (before, after)
    assert after.longest_renewal < Timing().deadline, after
