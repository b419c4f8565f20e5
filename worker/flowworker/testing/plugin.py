"""The pytest plugin. Every pytest run imports it, so it imports nothing else until a fixture is used."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flowworker.testing.postgres import FlowDatabase, FlowServer


@pytest.fixture(scope="session")
def flow_server() -> "Iterator[FlowServer]":
    """The PostgreSQL server of the session; databases of tests are made on it."""
    from flowworker.testing.postgres import flow_server

    with flow_server() as server:
        yield server


@pytest.fixture
def flow_db(flow_server: "FlowServer") -> "Iterator[FlowDatabase]":
    """A fresh PostgreSQL database with pgmq, pgflow and FlowWorker installed; see `FlowDatabase`."""
    with flow_server.database() as database:
        yield database
