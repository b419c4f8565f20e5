"""Fixtures of the operator's tests on a real PostgreSQL."""

from collections.abc import AsyncIterator

import pytest
from tests.integration.operator.observer import Observer
from tests.integration.sources.conftest import core_world, world

__all__ = ["core_world", "world"]


@pytest.fixture
async def observer() -> AsyncIterator[Observer]:
    """Someone who watches databases as the operator does."""
    made = Observer()
    yield made
    await made.databases.close()
