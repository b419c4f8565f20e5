from collections.abc import AsyncIterator

import pytest
from tests.conftest import Database

from flowworker.client import Client


@pytest.fixture
async def client(database: Database) -> AsyncIterator[Client]:
    async with Client(database.worker_dsn) as client:
        yield client


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[Client]:
    """A client with an administrator's rights."""
    async with Client(database.admin_dsn) as client:
        yield client
