"""Every test of this folder runs on PostgreSQL and on the in-memory twin."""

from collections.abc import AsyncIterator

import pytest
from tests.conftest import Database
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend
from tests.integration.sources.world import a_world


@pytest.fixture
async def postgres_backend(database: Database) -> AsyncIterator[Backend]:
    async with a_world(database) as world:
        yield PostgresBackend(world)


@pytest.fixture
def memory_backend() -> Backend:
    return MemoryBackend()


@pytest.fixture(params=["postgres", "memory"])
def backend(request: pytest.FixtureRequest) -> Backend:
    # Asked for by name, because the memory backend must not pay for a database.
    made: Backend = request.getfixturevalue(f"{request.param}_backend")
    return made
