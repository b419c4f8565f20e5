"""Every test of this folder runs on the in-memory twin and on PostgreSQL, those of flows on one core after another."""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest
from tests.conftest import TESTED_CORES, create_database, drop_database
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend
from tests.integration.sources.world import a_world

from flowworker.database.local_server import LocalServer

MEMORY = "memory"

_numbers = count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        cores = TESTED_CORES if "flow" in metafunc.function.__module__ else TESTED_CORES[:1]
        metafunc.parametrize("core", [MEMORY, *cores])


@pytest.fixture
def core() -> str:
    """The core that a test runs on, or memory; see above."""
    raise NotImplementedError


@pytest.fixture
async def postgres_backend(
    core: str, postgres: LocalServer, core_templates: Callable[[str], Awaitable[str]]
) -> AsyncIterator[Backend]:
    database = await create_database(postgres, f"contract_{next(_numbers)}", await core_templates(core))
    async with a_world(database) as world:
        yield PostgresBackend(world)
    await drop_database(database)


@pytest.fixture
def backend(core: str, request: pytest.FixtureRequest) -> Backend:
    # Asked for by name, because the memory backend must not pay for a database.
    made: Backend = MemoryBackend() if core == MEMORY else request.getfixturevalue("postgres_backend")
    return made
