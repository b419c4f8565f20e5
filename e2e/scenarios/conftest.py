"""Fixtures of the scenarios: a stage on a real node, and scenarios that run side by side."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from e2e.support.stage import Stage, prepared
from testkit.cluster.backend import Backend
from testkit.support import images
from testkit.support.programs import Programs
from testkit.support.together import ATTRIBUTE, Company, Scenario, side_by_side
from tools.fetch_kubectl import helm, kubectl

HERE = Path(__file__).parent

AT_ONCE = 3
"""Scenarios side by side: what two cores bear without pods that start too late."""

TIMEOUT = 900
"""Seconds for a test that waits for its scenario, which may wait for its turn and has a budget of its own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here need a whole cluster, and share it: they stay in one process."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(TIMEOUT))
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.fixture(scope="session")
def stage(cluster: Backend) -> Iterator[Stage]:
    """A cluster with our images, PostgreSQL and the operator."""
    images.load(cluster, images.build())
    programs = Programs(cluster.kubeconfig, str(kubectl()), str(helm()))
    with prepared(cluster, programs) as stage:
        yield stage


@pytest.fixture(scope="module")
def company(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Company[Stage]]:
    """The scenarios of this module that were chosen, under way."""
    chosen = (item for item in request.session.items if item.path == request.path)
    functions: list[object] = [getattr(item, "function", None) for item in chosen]
    scenarios: list[Scenario[Stage]] = [getattr(one, ATTRIBUTE) for one in functions if hasattr(one, ATTRIBUTE)]
    module = cast("object", request.module)  # pyright: ignore[reportUnknownMemberType]
    at_once: int = getattr(module, "AT_ONCE", AT_ONCE)
    with side_by_side(scenarios, stage, at_once=at_once) as company:
        yield company
