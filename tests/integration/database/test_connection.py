"""What a connection string asks for happens at the real server or pooler, or is refused by name."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import quote

import pytest
import uvloop
from testkit.support.tls import running_tls_server
from tests.acceptance.pooler import PROGRAM, transaction_pooler
from tests.conftest import Database

from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer
from flowworker.errors import AuthenticationError, UsageError

PASSWORD = "a#b?c@d/e:f%g&h=i j+ü"


@pytest.fixture
async def guarded(own_server: LocalServer) -> LocalServer:
    """A server whose role `app` needs a password with every awkward character."""
    admin = await connect(own_server.dsn(), application_name="test")
    quoted = PASSWORD.replace("'", "''")
    await admin.execute(f"CREATE ROLE app LOGIN PASSWORD '{quoted}'")
    (own_server.data / "pg_hba.conf").write_text(
        "host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
    )
    await admin.execute("SELECT pg_reload_conf()")
    await admin.close()
    return own_server


async def test_a_password_of_awkward_characters_reaches_the_server(guarded: LocalServer) -> None:
    place = f"127.0.0.1:{guarded.port}/postgres"
    encoded = quote(PASSWORD, safe="")
    for dsn in (f"postgresql://app:{encoded}@{place}", f"postgresql://{place}?user=app&password={encoded}"):
        connection = await connect(dsn, application_name="test")
        assert await connection.fetchval("SELECT current_user") == "app"
        await connection.close()
    with pytest.raises(AuthenticationError) as refused:
        await connect(f"postgresql://app:{encoded}x@{place}", application_name="test")
    assert PASSWORD not in str(refused.value)


async def test_settings_and_name_of_the_string_are_those_of_the_session(database: Database) -> None:
    query = "application_name=mine&options=-c%20jit%3Doff&work_mem=5MB&channel_binding=prefer&connect_timeout=5"
    connection = await connect(f"{database.worker_dsn}?{query}", application_name="ours")
    names = ("application_name", "jit", "work_mem")
    assert [await connection.fetchval("SELECT current_setting($1)", name) for name in names] == ["mine", "off", "5MB"]
    await connection.close()


@pytest.mark.parametrize("parameter", ["pgbouncer=true", "schema=geheim", "work_mem=geheim", "max_connections=5"])
async def test_what_the_server_refuses_is_named_and_no_outage(database: Database, parameter: str) -> None:
    name, value = parameter.split("=")
    with pytest.raises(UsageError, match=name) as refused:
        await connect(f"{database.worker_dsn}?{parameter}", application_name="test")
    assert value not in f"{refused.value} {refused.value.__cause__}"


async def test_a_refused_option_is_named(database: Database) -> None:
    with pytest.raises(UsageError, match="parameter options"):
        await connect(f"{database.worker_dsn}?options=-c%20bogus%3D3", application_name="test")


async def test_a_host_that_is_no_name_is_no_outage() -> None:
    with pytest.raises(UsageError, match="host"):
        await connect(f"postgresql://u:p@{'a' * 70}/x", application_name="test")


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_keepalives_reach_the_socket(postgres: LocalServer, factory: object) -> None:
    async def look() -> list[int]:
        connection = await connect(f"{postgres.dsn()}?keepalives_idle=7&tcp_user_timeout=9000", application_name="test")
        opened = connection._transport.get_extra_info("socket")  # pyright: ignore
        wanted = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                  (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))  # fmt: skip
        found = [cast("int", opened.getsockopt(level, option)) for level, option in wanted]
        await connection.close()
        return found

    with asyncio.Runner(loop_factory=factory) as runner:  # pyright: ignore
        assert runner.run(look()) == [1, 7, 9000]


@pytest.mark.skipif(PROGRAM is None, reason="needs PgBouncer: apt-get install pgbouncer")
@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_setting_that_a_pooler_refuses_is_named_and_no_outage(database: Database, mode: str) -> None:
    async with transaction_pooler(database, mode=mode) as dsn:
        for name in ("statement_timeout", "options"):
            with pytest.raises(UsageError, match=name):
                await connect(f"{dsn}?{name}=5000", application_name="test", statement_cache=False)
        connection = await connect(f"{dsn}?application_name=mine", application_name="test", statement_cache=False)
        assert await connection.fetchval("SELECT current_setting('application_name')") == "mine"
        await connection.close()


@pytest.fixture
def tls_server() -> Iterator[tuple[LocalServer, Path]]:
    """A server with a certificate of its own for `localhost`, and that certificate."""
    with running_tls_server() as server:
        yield server


async def test_the_system_s_certificates_decide_who_the_server_is(
    tls_server: tuple[LocalServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls_server
    dsn = f"postgresql://postgres@localhost:{server.port}/postgres?sslrootcert=system"
    with pytest.raises(AuthenticationError, match="certificate"):
        await connect(dsn, application_name="test")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    connection = await connect(dsn, application_name="test")
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await connection.close()
    with pytest.raises(AuthenticationError, match="certificate"):
        await connect(dsn.replace("localhost", "127.0.0.1"), application_name="test")
