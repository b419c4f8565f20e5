"""The proxy does to connections what it says, seen from a real client of a real server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from testkit.support.proxy import Moment, Proxy, Weather
from testkit.support.waiting import hold_for, until
from tests.conftest import Database

from flowworker.database.connection import Connection, connect


@pytest.fixture
async def proxy(database: Database) -> AsyncIterator[Proxy]:
    async with Proxy(database.server.port) as proxy:
        yield proxy


Through = Callable[[], Awaitable[Connection]]


@pytest.fixture
async def through(database: Database, proxy: Proxy, owner: Connection) -> AsyncIterator[Through]:
    await owner.execute("CREATE TABLE seen (number integer)")
    opened: list[Connection] = []

    async def open_one() -> Connection:
        opened.append(await connect(proxy.dsn(database.dsn), application_name="through"))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.terminate()


async def seen(owner: Connection) -> list[int]:
    return [row["number"] for row in await owner.fetch("SELECT number FROM seen ORDER BY number")]


async def test_in_clear_weather_everything_passes(through: Through) -> None:
    connection = await through()
    assert await connection.fetchval("SELECT $1::integer", 7) == 7
    assert len(await connection.fetchval("SELECT repeat('x', 1000000)")) == 1_000_000


async def test_what_is_held_arrives_later(through: Through, proxy: Proxy) -> None:
    connection = await through()
    proxy.weather = Weather.HELD
    answer = asyncio.ensure_future(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait({answer}, timeout=0.2)
    assert not done
    proxy.weather = Weather.CLEAR
    assert await asyncio.wait_for(answer, 5) == 1


async def test_what_is_swallowed_never_arrives_and_no_side_gets_an_error(through: Through, proxy: Proxy) -> None:
    connection, idle = await through(), await through()
    proxy.weather = Weather.SWALLOWED
    answer = asyncio.ensure_future(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait({answer}, timeout=0.2)
    assert not done
    proxy.weather = Weather.CLEAR
    done, _ = await asyncio.wait({answer}, timeout=0.3)
    assert not done
    answer.cancel()
    assert await idle.fetchval("SELECT 2") == 2


async def test_refused_connections_are_reset_old_and_new(through: Through, proxy: Proxy) -> None:
    connection = await through()
    proxy.weather = Weather.REFUSED
    with pytest.raises((OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)):
        await connection.fetchval("SELECT 1")
    with pytest.raises(Exception, match="no connection to the database"):
        await through()
    proxy.weather = Weather.CLEAR
    assert await (await through()).fetchval("SELECT 1") == 1


async def test_a_trap_before_a_statement_keeps_it_from_the_server(
    through: Through, proxy: Proxy, owner: Connection
) -> None:
    connection = await through()
    trap = proxy.trap("INSERT INTO seen", Moment.BEFORE_SEND)
    with pytest.raises((OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)):
        await connection.fetchval("INSERT INTO seen VALUES ($1) RETURNING number", 1)
    assert (trap.sprung.is_set(), await seen(owner)) == (True, [])


async def test_a_trap_after_the_commit_hides_it_from_the_client(
    through: Through, proxy: Proxy, owner: Connection
) -> None:
    connection = await through()
    actions: list[str] = []
    trap = proxy.trap("INSERT INTO seen", Moment.AFTER_COMMIT, least_rows=2, action=lambda: actions.append("sprung"))
    insert = "INSERT INTO seen SELECT generate_series(1, $1::integer) RETURNING number"
    assert len(await connection.fetch(insert, 1)) == 1
    assert not trap.sprung.is_set()
    with pytest.raises((OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)):
        await connection.fetch(insert, 2)
    assert (actions, await seen(owner)) == (["sprung"], [1, 1, 2])


async def test_latency_and_trickle_only_take_longer(through: Through, proxy: Proxy) -> None:
    connection = await through()
    proxy.latency = 0.1
    began = time.monotonic()
    assert await connection.fetchval("SELECT 1") == 1
    assert time.monotonic() - began >= 0.2
    proxy.latency, proxy.trickle = 0.0, True
    assert len(await connection.fetchval("SELECT repeat('x', 3000)")) == 3000


async def test_a_line_disturbs_only_the_connections_of_its_name(
    through: Through, proxy: Proxy, database: Database
) -> None:
    other = await connect(proxy.dsn(database.dsn), application_name="other")
    connection = await through()
    proxy.line("through").weather = Weather.REFUSED
    with pytest.raises((OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)):
        await connection.fetchval("SELECT 1")
    with pytest.raises(Exception, match="no connection to the database"):
        await through()
    assert await other.fetchval("SELECT 1") == 1
    proxy.line("through").heal()
    assert await (await through()).fetchval("SELECT 1") == 1
    await other.close()


async def test_a_swallowed_connection_whose_client_is_gone_ends_when_the_line_heals(
    through: Through, proxy: Proxy, owner: Connection
) -> None:
    connection = await through()
    proxy.line("through").weather = Weather.SWALLOWED
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 1", timeout=0.1)
    connection.terminate()
    assert await sessions(owner) == 1
    proxy.line("through").heal()
    await until(lambda: ended(owner), "the server's side ends")


async def test_a_narrow_line_takes_its_time_in_both_directions(through: Through, proxy: Proxy) -> None:
    connection = await through()
    proxy.line("through").bandwidth = 500_000
    began = time.monotonic()
    assert await connection.fetchval("SELECT length($1::text)", "x" * 100_000) == 100_000
    asked = time.monotonic()
    assert len(await connection.fetchval("SELECT repeat('x', 100000)")) == 100_000
    assert (asked - began >= 0.15, time.monotonic() - asked >= 0.15) == (True, True)


@pytest.mark.parametrize(("weather", "arrives"), [(Weather.CLEAR, True), (Weather.SWALLOWED, False)])
async def test_a_request_to_cancel_takes_the_line_of_whose_statement_it_means(
    through: Through, proxy: Proxy, owner: Connection, weather: Weather, arrives: bool
) -> None:
    statement = asyncio.ensure_future((await through()).fetchval("SELECT pg_sleep(10)", timeout=0.5))
    await until(lambda: active(owner), "the statement runs")
    proxy.line("through").weather = weather
    with pytest.raises(TimeoutError):
        await statement
    await hold_for(0.3)
    assert await active(owner) is not arrives


async def sessions(owner: Connection) -> int:
    number: int = await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'through'")
    return number


async def active(owner: Connection) -> bool:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'through' AND state = 'active'"
    return bool(await owner.fetchval(statement))


async def ended(owner: Connection) -> bool:
    return await sessions(owner) == 0
