"""The operator trusts the certificates that a Secret gives, and the workers find the same ones in a file."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from testkit.support.tls import RSA, running_tls_server, self_signed
from tests.conftest import Database, create_database, create_roles, install_everything
from tests.integration.operator.observer import Observer, subject

from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer
from flowworker_operator.api.conditions import Reason

FLOW = subject("one_step")


async def built(server: LocalServer) -> Database:
    """A database with everything installed."""
    await create_roles(server)
    database = await create_database(server, "app")
    await install_everything(database)
    return database


@pytest.fixture(scope="module")
def secure() -> Iterator[tuple[Database, Path]]:
    """A database behind TLS, and its certificate."""
    with running_tls_server() as (server, certificate):
        yield asyncio.run(built(server)), certificate


@pytest.fixture(scope="module")
def costly() -> Iterator[Database]:
    """A database whose server takes part in no handshake but the one whose cost it chooses."""
    how = {"ssl_ciphers": "DHE-RSA-AES256-GCM-SHA384", "ssl_max_protocol_version": "TLSv1.2"}
    with running_tls_server(RSA, **how) as (server, _):
        yield asyncio.run(built(server))


def by_name(database: Database, mode: str) -> str:
    return f"{database.worker_dsn.replace('127.0.0.1', 'localhost')}?sslmode={mode}"


async def test_a_server_is_verified_by_the_certificates_given(
    observer: Observer, secure: tuple[Database, Path]
) -> None:
    database, certificate = secure
    dsn = by_name(database, "verify-full")
    observer.watch(dsn, FLOW, certificates=certificate.read_text())
    await observer.reads(FLOW)
    observer.watch(dsn.replace("localhost", "127.0.0.1"), FLOW, certificates=certificate.read_text())
    assert "certificate" in await observer.fails(FLOW, Reason.DATABASE_REFUSED)
    await observer.databases.close()


async def test_other_certificates_are_not_enough(
    observer: Observer, secure: tuple[Database, Path], other_certificates: str
) -> None:
    observer.watch(by_name(secure[0], "verify-ca"), FLOW, certificates=other_certificates)
    assert "certificate" in await observer.fails(FLOW, Reason.DATABASE_REFUSED)


async def test_without_certificates_require_encrypts_and_trusts(
    observer: Observer, secure: tuple[Database, Path]
) -> None:
    observer.watch(by_name(secure[0], "require"), FLOW)
    await observer.reads(FLOW)


async def test_a_server_that_would_choose_what_a_handshake_costs_is_refused(
    observer: Observer, costly: Database
) -> None:
    observer.watch(by_name(costly, "require"), FLOW)
    assert "of TLS 1.2 those with ECDHE" in await observer.fails(FLOW, Reason.DATABASE_REFUSED)


@pytest.mark.parametrize("mode", ["prefer", "allow"])
async def test_where_encryption_is_only_preferred_such_a_server_is_read_without(
    observer: Observer, costly: Database, mode: str
) -> None:
    observer.watch(by_name(costly, mode), FLOW)
    await observer.reads(FLOW)
    superuser = await connect(costly.superuser_dsn, application_name="test")
    encrypted = await superuser.fetch(
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'flowworker-operator'"
    )
    await superuser.close()
    assert {row["ssl"] for row in encrypted} == {False}


async def test_a_worker_verifies_with_the_file_that_its_pod_names(
    secure: tuple[Database, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, certificate = secure
    monkeypatch.setenv("PGSSLROOTCERT", str(certificate))
    connection = await connect(by_name(database, "verify-full"), application_name="test")
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await connection.close()


@pytest.fixture(scope="module")
def other_certificates(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Certificates that vouch for another server."""
    certificate, _ = self_signed(tmp_path_factory.mktemp("other"))
    return certificate.read_text()
