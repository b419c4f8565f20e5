"""What one operator costs when it looks after many FlowWorkers. `make bench-operator` measures the rest."""

import random

import pytest
from testkit.cluster.control_plane import ControlPlane
from tests.chaos.arena import Arena
from tests.control_plane.scale.crowd import STRAINED, Crowd, new_crowd

MOST_MEMORY = 100.0
"""MiB with one FlowWorker; the aim is 75."""
MOST_MEMORY_MORE = 0.2
"""MiB for each further one: 140 in all with 200."""
MOST_WRITES = 0.3
"""Per FlowWorker and second; the aim is 0.15."""
WINDOW = 20.0
"""Seconds: two of the shortest interval between writes of mere numbers."""
LEAST_TICK = 0.9
"""Seconds between two looks at a database of which some FlowWorkers have no worker."""
GROWING_FOR = 20.0
"""Seconds in which a changing load reaches the most workers; each step is a patch, an event and a status."""
STRAINED_FOR = 30.0


@pytest.mark.asyncio(loop_scope="module")
async def test_many_at_rest_cost_no_write_one_connection_and_one_statement_for_each_tick(crowd: Crowd) -> None:
    await crowd.until_settled()
    rest = await crowd.rest(WINDOW)
    assert rest.writes == []
    assert (rest.connections, rest.accepted) == (1, 1)
    assert 1 <= rest.statements <= rest.seconds / LEAST_TICK + 1


@pytest.mark.asyncio(loop_scope="module")
async def test_many_fit_into_the_memory(crowd: Crowd) -> None:
    assert crowd.memory() <= MOST_MEMORY + MOST_MEMORY_MORE * crowd.size


async def test_one_is_small(control_plane: ControlPlane, arena: Arena) -> None:
    async with new_crowd(control_plane, arena, 1) as crowd:
        await crowd.apply()
        await crowd.until_ready()
        assert crowd.memory() <= MOST_MEMORY


async def test_work_that_changes_all_the_time_is_no_reason_to_write_all_the_time(
    control_plane: ControlPlane, arena: Arena
) -> None:
    async with new_crowd(control_plane, arena, 8, only_queues=True) as crowd:
        await crowd.apply(STRAINED)
        await crowd.until_ready()
        chance = random.Random(4)
        await crowd.strain(GROWING_FOR, chance)
        written = await crowd.strain(STRAINED_FOR, chance)
        assert 0 < written <= MOST_WRITES
