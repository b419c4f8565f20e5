"""The operator trusts the certificates that a Secret gives, and the workers find the same ones in a file."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from testkit.support.tls import running_tls_server, self_signed
from tests.conftest import Database, create_database, create_roles, install_everything
from tests.integration.operator.probing import Observer, subject

from flowworker.database.connection import connect
from flowworker_operator.api.conditions import Reason

FLOW = subject("one_step")


@pytest.fixture(scope="module")
def secure() -> Iterator[tuple[Database, Path]]:
    """A database behind TLS with everything installed, and its certificate."""

    async def build() -> Database:
        database = await create_database(server, "app")
        await install_everything(database)
        return database

    with running_tls_server() as (server, certificate):
        asyncio.run(create_roles(server))
        yield asyncio.run(build()), certificate


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
    await observer.probes.close()


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
