"""The TCP connection beneath a session, on the event loop that workers use where it is installed."""

import asyncio

import pytest
from testkit.support.waiting import until
from tests.conftest import Database

from flowworker.database.connection import connect
from flowworker.database.transport import bytes_moved, let_go

uvloop = pytest.importorskip("uvloop")


def test_a_connection_that_is_closed_already_can_be_let_go_of(database: Database) -> None:
    async def scenario() -> None:
        connection = await connect(database.dsn, application_name="test")
        assert (bytes_moved(connection) or 0) > 0
        connection.terminate()
        await until(connection.is_closed, "it is closed")
        await asyncio.sleep(0)
        let_go(connection)
        assert bytes_moved(connection) is None

    uvloop.run(scenario())
