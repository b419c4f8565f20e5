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
from tests.integration.operator.probing import Observer, subject

from flowworker.database.connection import CONNECT_TIMEOUT
from flowworker.database.local_server import free_port
from flowworker_operator.api.conditions import Reason
from flowworker_operator.probe import Subject
from flowworker_operator.probe.hosts import KnownHosts

CLOSED, SILENT, UNKNOWN, OTHER = (subject("one_step", name=name) for name in ("closed", "silent", "unknown", "other"))


def lookup(host: str) -> Sequence[str]:
    if host.startswith("unknown"):
        raise socket.gaierror(-2, "Name or service not known")
    return ["127.0.0.1"]


@pytest.fixture
async def stranger() -> AsyncIterator[Observer]:
    """Watches databases of which none is known to who runs the operator."""
    made = Observer(lookup=lookup, known=KnownHosts())
    yield made
    await made.probes.close()


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
        await stranger.probes.close()


async def test_what_a_postgresql_says_is_published_at_once(stranger: Observer, database: Database) -> None:
    stranger.watch(database.worker_dsn.replace("127.0.0.1", "host.example").replace(database.name, "nowhere"), OTHER)
    assert "create it" in await stranger.fails(OTHER, Reason.DATABASE_UNREACHABLE)


async def test_a_database_that_is_back_before_that_was_never_away(database: Database) -> None:
    attempts = list[str]()

    def counted(host: str) -> Sequence[str]:
        attempts.append(host)
        return ["127.0.0.1"]

    stranger = Observer(lookup=counted, known=KnownHosts())
    async with Proxy(database.server.port) as proxy:
        proxy.weather = Weather.REFUSED
        stranger.watch(proxy.dsn(database.worker_dsn).replace("127.0.0.1", "host.example"), OTHER)
        await until(lambda: len(attempts) > 2, "it was tried again")
        assert stranger.news == []
        proxy.weather = Weather.CLEAR
        await stranger.reads(OTHER)
        assert stranger.probes.fault(OTHER.key) is None
        await stranger.probes.close()
