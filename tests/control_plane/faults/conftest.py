"""Fixtures of the fault tests: the operator's way to the API server leads through a proxy that a test commands."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from testkit.cluster.certificates import Authority
from testkit.cluster.control_plane import ControlPlane
from testkit.support.api_proxy import ApiProxy
from testkit.support.rights import rules
from tests.chaos.arena import Arena
from tests.chaos.ground import Ground
from tests.chaos.workloads import single
from tests.control_plane.faults.rehearsal import ALL_VARIABLE
from tests.control_plane.faults.scene import Scene, new_scene

HERE = Path(__file__).parent

TIMEOUT = 3600 if os.environ.get(ALL_VARIABLE) == "all" else 600
"""Seconds: a test may start and kill an operator again and again, on a machine that may do much else."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test here its time."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture
async def ground(arena: Arena) -> AsyncIterator[Ground]:
    """A fresh database with a flow."""
    async with arena.ground(single) as ground:
        yield ground


@pytest.fixture
async def scene(control_plane: ControlPlane, namespace: str, ground: Ground) -> AsyncIterator[Scene]:
    """A namespace with an operator behind a proxy, not started yet; the operator must have nothing to complain of."""
    async with new_scene(control_plane, namespace, ground) as scene:
        yield scene
        complaints = [line for operator in scene.world.operators for line in operator.complaints()]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
async def proxy(control_plane: ControlPlane, namespace: str) -> AsyncIterator[ApiProxy]:
    """A proxy in front of the API server, for a user with the rights of the operator."""
    kubeconfig = control_plane.user(f"{namespace}-proxied", rules(), namespace)
    async with ApiProxy(kubeconfig, Authority.load(control_plane.layout, "ca")) as proxy:
        yield proxy
