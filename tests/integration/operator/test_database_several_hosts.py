"""Of several hosts in a connection string the first one that fits is taken, by workers and operator alike."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest
from tests.conftest import WORKER_ROLE

from flowworker.database.connection import Connection, connect
from flowworker.database.local_server import LocalServer
from flowworker.errors import DatabaseUnavailableError
from flowworker_operator.database.dialing import Dialer
from flowworker_operator.database.endpoint import parse_endpoint

SECONDS = 2

Opener = Callable[[str], Awaitable[Connection]]


async def as_worker(dsn: str) -> Connection:
    return await connect(dsn, application_name="test")


async def as_operator(dsn: str) -> Connection:
    async def itself(host: str) -> Sequence[str]:
        return [host]

    return await Dialer(itself).open(parse_endpoint(dsn).arguments, application_name="test")


opening = pytest.mark.parametrize("opener", [as_worker, as_operator])


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing, as a firewall or a host that hangs does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
async def reading(own_server: LocalServer) -> int:
    """The port of a server that takes no writes, as a standby."""
    admin = await connect(own_server.dsn(), application_name="test")
    await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await admin.execute("SELECT pg_reload_conf()")
    await admin.close()
    return own_server.port


def several(*ports: int, **parameters: str) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"postgresql://{WORKER_ROLE}@{hosts}/postgres?{query}"


async def chosen(opener: Opener, dsn: str) -> int:
    connection = await opener(dsn)
    try:
        return await connection.fetchval("SELECT inet_server_port()")
    finally:
        await connection.close()


@opening
@pytest.mark.parametrize("wanted", ["any", "read-write", "prefer-standby"])
async def test_a_host_that_is_silent_leaves_time_for_those_after_it(
    opener: Opener, postgres: LocalServer, silent: int, wanted: str
) -> None:
    dsn = several(silent, silent, postgres.port, target_session_attrs=wanted, connect_timeout=str(SECONDS))
    assert await chosen(opener, dsn) == postgres.port


@opening
async def test_hosts_are_tried_in_the_order_in_which_they_are_written(
    opener: Opener, postgres: LocalServer, reading: int
) -> None:
    writing = postgres.port
    for order in ((writing, reading), (reading, writing)):
        assert await chosen(opener, several(*order)) == order[0]
        assert await chosen(opener, several(*order, target_session_attrs="read-write")) == writing
        assert await chosen(opener, several(*order, target_session_attrs="read-only")) == reading
        assert await chosen(opener, several(*order, target_session_attrs="prefer-standby")) == order[0]
        with pytest.raises(DatabaseUnavailableError):
            await chosen(opener, several(*order, target_session_attrs="standby"))


@opening
async def test_all_hosts_together_take_no_longer_than_the_string_allows_each(opener: Opener, silent: int) -> None:
    dsn = several(silent, silent, connect_timeout=str(SECONDS), target_session_attrs="prefer-standby")
    async with asyncio.timeout(6 * SECONDS):  # two hosts, each of which is asked twice
        with pytest.raises(DatabaseUnavailableError, match="Timeout"):
            await opener(dsn)
