"""Fixtures shared by all tests: real PostgreSQL servers and databases made from a template."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from flowworker.database.connection import Connection, connect
from flowworker.database.install import install
from flowworker.database.local_server import DEVELOPMENT_SETTINGS, LocalServer, embedded_binaries

BINARIES_VARIABLE = "FLOWWORKER_TEST_POSTGRES_BIN"
"""Directory with another PostgreSQL's initdb, pg_ctl and postgres; unset: the embedded PostgreSQL."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a test server, with everything installed."""

    server: LocalServer
    name: str

    @property
    def dsn(self) -> str:
        """Connection string of the owner."""
        return self.server.dsn(self.name)

    async def connect(self) -> Connection:
        """Open a connection as the owner."""
        return await connect(self.dsn, application_name="test")


def make_server(directory: Path) -> LocalServer:
    """A server that is not started yet, with the binaries under test."""
    chosen = os.environ.get(BINARIES_VARIABLE)
    return LocalServer(
        directory=directory,
        binaries=Path(chosen) if chosen else embedded_binaries(),
        settings={**DEVELOPMENT_SETTINGS, "deadlock_timeout": "100ms", "max_connections": "200"},
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalServer]:
    """A running PostgreSQL server shared by the session; tests must not restart it."""
    with tempfile.TemporaryDirectory(prefix="flowworker-test-") as folder:
        Path(folder).chmod(0o755)
        with make_server(Path(folder) / "server") as server:
            yield server


@pytest.fixture(scope="session")
def template(postgres: LocalServer) -> str:
    """Name of a database with everything installed, to be copied."""

    async def build() -> None:
        admin = await connect(postgres.dsn(), application_name="test")
        await admin.execute("CREATE DATABASE flowworker_template")
        await admin.close()
        owner = await connect(postgres.dsn("flowworker_template"), application_name="test")
        await install(owner)
        await owner.close()

    asyncio.run(build())
    return "flowworker_template"


@pytest.fixture
async def database(postgres: LocalServer, template: str) -> AsyncIterator[Database]:
    """A fresh database with pgmq, pgflow and our schema, dropped after the test."""
    name = f"test_{next(_numbers)}"
    admin = await connect(postgres.dsn(), application_name="test")
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield Database(postgres, name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """An owner's connection to the test's database."""
    connection = await database.connect()
    yield connection
    await connection.close()
