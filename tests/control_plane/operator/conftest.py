"""Fixtures of the operator's tests: PostgreSQL that records what workers do, and a world for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from testkit.cluster.control_plane import ControlPlane
from tests.chaos.arena import Arena
from tests.chaos.ground import Ground
from tests.chaos.workloads import fan, jobs, single
from tests.control_plane.conftest import RESTRICTED
from tests.control_plane.operator.world import World, new_world

HERE = Path(__file__).parent

TIMEOUT = 300
"""Seconds: each test starts an operator and several workers, on a machine that may do much else."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test here its time."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture
async def ground(arena: Arena) -> AsyncIterator[Ground]:
    """A fresh database with two flows and a queue."""
    async with arena.ground(single, fan, jobs) as ground:
        yield ground


@pytest.fixture
async def world(control_plane: ControlPlane, namespace: str, ground: Ground) -> AsyncIterator[World]:
    """A namespace with a running operator and nothing to do; the operator must have nothing to complain of."""
    async with new_world(control_plane, namespace, ground) as world:
        yield world
        complaints = [line for operator in world.operators for line in operator.complaints()]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def elsewhere(control_plane: ControlPlane) -> Iterator[str]:
    """One more namespace."""
    name = f"elsewhere-{uuid4().hex[:10]}"
    control_plane.create_namespace(name, RESTRICTED)
    yield name
    control_plane.api.delete(f"/api/v1/namespaces/{name}")
