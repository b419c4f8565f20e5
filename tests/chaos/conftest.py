"""Fixtures of the chaos tests: a server whose commits have times, and scenarios that run side by side."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from testkit.support.together import ATTRIBUTE, Company, Scenario, side_by_side
from tests.chaos.arena import Arena, new_arena

HERE = Path(__file__).parent

AT_ONCE = 8
"""Scenarios side by side in one test process: what two cores bear without slowing the workers' heartbeats."""

TIMEOUT = 240
"""Seconds for a test that waits for its scenario, which may wait for its turn."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here are chaos; those of one module stay in one process, because they run side by side."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(TIMEOUT))
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def arena() -> Iterator[Arena]:
    """Shared by scenarios that leave the server alone."""
    with new_arena() as arena:
        yield arena


@pytest.fixture(scope="module")
def company(request: pytest.FixtureRequest, arena: Arena) -> Iterator[Company[Arena]]:
    """The scenarios of this module that were chosen, under way."""
    chosen = (item for item in request.session.items if item.path == request.path)
    functions: list[object] = [getattr(item, "function", None) for item in chosen]
    scenarios: list[Scenario[Arena]] = [getattr(one, ATTRIBUTE) for one in functions if hasattr(one, ATTRIBUTE)]
    with side_by_side(scenarios, arena, at_once=AT_ONCE) as company:
        yield company
