"""What cannot be reached looks the same to a tenant whatever the reason, and not sooner for one reason than another."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from testkit.support.hostile import HostileServer, nonsense
from testkit.support.proxy import Proxy, Weather
from testkit.support.waiting import PATIENCE, until
from tests.conftest import Database
from tests.integration.operator.observer import Observer, subject

from flowworker.database.connection import CONNECT_TIMEOUT
from flowworker.database.local_server import free_port
from flowworker_operator.api.conditions import Reason
from flowworker_operator.database import Subject
from flowworker_operator.database.hosts import KnownHosts, known_hosts

CLOSED, SILENT, UNKNOWN, OTHER = (subject("one_step", name=name) for name in ("closed", "silent", "unknown", "other"))


def lookup(host: str) -> Sequence[str]:
    if host.startswith("unknown"):
        raise socket.gaierror(-2, "Name or service not known")
    return ["127.0.0.1"]


@pytest.fixture
async def stranger() -> AsyncIterator[Observer]:
    """Watches databases of which none is known to who runs the operator."""
    made = Observer(lookup=lookup, known=known_hosts(["127.0.0.0/8"]))
    yield made
    await made.databases.close()


async def published(stranger: Observer, one: Subject) -> tuple[str, float]:
    """What is published of a database, and when."""
    message = await stranger.fails(one, Reason.DATABASE_UNREACHABLE, within=2 * PATIENCE)
    return message.partition(": ")[2], time.monotonic()


async def test_a_closed_port_a_silent_one_an_unknown_name_and_another_server_look_alike(
    stranger: Observer, database: Database
) -> None:
    async with Proxy(database.server.port) as proxy, HostileServer(nonsense, at_start=True).running() as nonsensical:
        proxy.weather = Weather.SWALLOWED
        places = {
            CLOSED.key: f"postgresql://u:p@host.example:{free_port()}/app",
            SILENT.key: proxy.dsn(database.worker_dsn).replace("127.0.0.1", "host.example"),
            UNKNOWN.key: "postgresql://u:p@unknown.example/app",
            OTHER.key: nonsensical.replace("127.0.0.1", "host.example"),
        }
        began = time.monotonic()
        subjects = (CLOSED, SILENT, UNKNOWN, OTHER)
        for one in subjects:
            stranger.watch(places[one.key], one)
        found = await asyncio.gather(*(published(stranger, one) for one in subjects))
        assert len({message for message, _ in found}) == 1, found
        assert "check host and port" in found[0][0]
        assert min(moment for _, moment in found) - began >= CONNECT_TIMEOUT
        await stranger.databases.close()


async def test_what_a_postgresql_says_is_published_at_once(stranger: Observer, database: Database) -> None:
    stranger.watch(database.worker_dsn.replace("127.0.0.1", "host.example").replace(database.name, "nowhere"), OTHER)
    assert "create it" in await stranger.fails(OTHER, Reason.DATABASE_UNREACHABLE)


async def test_a_database_that_is_back_before_that_was_never_away(database: Database) -> None:
    attempts = list[str]()

    def counted(host: str) -> Sequence[str]:
        attempts.append(host)
        return ["127.0.0.1"]

    stranger = Observer(lookup=counted, known=known_hosts(["127.0.0.0/8"]))
    async with Proxy(database.server.port) as proxy:
        proxy.weather = Weather.REFUSED
        stranger.watch(proxy.dsn(database.worker_dsn).replace("127.0.0.1", "host.example"), OTHER)
        await until(lambda: len(attempts) > 2, "it was tried again")
        assert stranger.changed == []
        proxy.weather = Weather.CLEAR
        await stranger.reads(OTHER)
        assert stranger.databases.fault(OTHER.key) is None
        await stranger.databases.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "0.0.0.0", "169.254.169.254", "[fe80::1]", "[::ffff:127.0.0.1]"]
)
async def test_an_address_of_the_machine_itself_or_next_to_it_is_refused_by_name(host: str) -> None:
    stranger = Observer(lookup=lookup, known=known_hosts(["localhost", "10.0.0.0/8", "*.example"]))
    stranger.watch(f"postgresql://u:p@db.example,{host}/app", OTHER)
    assert f"the host {host.strip('[]')} of the connection string" in await stranger.fails(OTHER, Reason.BAD_SECRET)
    await stranger.databases.close()


@pytest.mark.parametrize("host", ["localhost", "2130706433", "inner.example"])
async def test_a_name_that_leads_to_such_an_address_is_not_dialled(
    host: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Observer(known=KnownHosts()) if host != "inner.example" else Observer(lookup=lookup, known=KnownHosts())
    async with Proxy(database.server.port) as proxy:
        stranger.watch(proxy.dsn(database.worker_dsn).replace("127.0.0.1", host), OTHER)
        await until(lambda: "loopback" in caplog.text, "the log says why")
        assert proxy.accepted == 0
        await stranger.databases.close()


async def test_of_a_host_only_the_addresses_that_may_be_dialled_are(database: Database) -> None:
    stranger = Observer(lookup=lambda _: ["127.0.0.2", "::1", "127.0.0.1"], known=known_hosts(["127.0.0.1"]))
    stranger.watch(database.worker_dsn.replace("127.0.0.1", "host.example"), OTHER)
    await stranger.reads(OTHER)
    await stranger.databases.close()
