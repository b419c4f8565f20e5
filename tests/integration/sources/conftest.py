"""Fixtures of the sources' tests."""

from collections.abc import AsyncIterator

import pytest
from tests.conftest import Database
from tests.integration.sources.world import World, a_world


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with a_world(database) as made:
        yield made


@pytest.fixture
async def core_world(catalogue: Database) -> AsyncIterator[World]:
    """A world on one catalogue after another."""
    async with a_world(catalogue) as made:
        yield made
