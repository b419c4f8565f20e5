"""A database for tests that run their own event loop."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.conftest import Database, create_database, drop_database

from flowworker.database.local_server import LocalServer


@pytest.fixture
def blank(postgres: LocalServer, template: str) -> Iterator[Database]:
    made = asyncio.run(create_database(postgres, f"property_{uuid4().hex}", template))
    yield made
    asyncio.run(drop_database(made))
