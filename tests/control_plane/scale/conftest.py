"""Fixtures of the tests with many FlowWorkers: one PostgreSQL, and one crowd for all tests that only look at it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from testkit.cluster.control_plane import ControlPlane
from tests.chaos.arena import Arena
from tests.control_plane.scale.crowd import Crowd, new_crowd

HERE = Path(__file__).parent

TIMEOUT = 600
"""Seconds: the first test makes a thousand objects, on a machine that may do much else."""
SIZE = 50
"""Enough to see what each one costs; `make bench-operator` has 200, which would take the machine from other tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test here its time, and one process to all, which share what takes long to make.

    Those with the crowd come last, one after the other: what serves the crowd stands still while a test with a loop of
    its own runs.
    """
    places = [place for place, item in enumerate(items) if item.path.is_relative_to(HERE)]
    ours = sorted((items[place] for place in places), key=lambda item: "crowd" in getattr(item, "fixturenames", ()))
    for place, item in zip(places, ours, strict=True):
        items[place] = item
        item.add_marker(pytest.mark.timeout(TIMEOUT))
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.xdist_group("scale"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(control_plane: ControlPlane, arena: Arena) -> AsyncIterator[Crowd]:
    """Many FlowWorkers at rest, created at once; half of them keep a worker."""
    async with new_crowd(control_plane, arena, SIZE) as crowd:
        await crowd.apply()
        await crowd.until_ready()
        yield crowd
