"""The operator trusts the certificates that a Secret gives, and the workers find the same ones in a file."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from testkit.support.tls import RSA, running_tls_server, self_signed
from tests.conftest import WORKER_ROLE, Database, create_database, create_roles, install_everything
from tests.integration.operator.observer import Observer, subject

from flowworker.database.connection import connect
from flowworker.database.local_server import LocalServer, free_port
from flowworker_operator.api.conditions import Reason
from flowworker_operator.database import ClientCertificate

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


@pytest.fixture(scope="module")
def particular() -> Iterator[Database]:
    """A database whose server exchanges keys of one group only, and refuses all connections without encryption."""
    with running_tls_server(ssl_ecdh_curve="secp384r1") as (server, _):
        database = asyncio.run(built(server))
        rules = server.data / "pg_hba.conf"
        rules.write_text(f"hostnossl all {WORKER_ROLE} all reject\n{rules.read_text()}")
        server.restart()
        yield database


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


async def encryption(database: Database) -> set[bool]:
    """Whether the operator's connections are encrypted."""
    superuser = await connect(database.superuser_dsn, application_name="test")
    found = await superuser.fetch(
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'flowworker-operator'"
    )
    await superuser.close()
    return {row["ssl"] for row in found}


async def test_a_server_that_would_choose_what_a_handshake_costs_is_refused(
    observer: Observer, costly: Database
) -> None:
    observer.watch(by_name(costly, "require"), FLOW)
    assert "of TLS 1.2 those with ECDHE" in await observer.fails(FLOW, Reason.DATABASE_REFUSED)


@pytest.fixture(params=["ffdhe8192", "ffdhe2048"])
def finite(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The port of a server of TLS 1.3 that exchanges keys in a finite field alone."""
    certificate, key = self_signed(tmp_path)
    port = free_port()
    command = ["openssl", "s_server", "-accept", str(port), "-cert", certificate, "-key", key, "-tls1_3", "-groups",
               request.param, "-alpn", "postgresql", "-quiet"]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as server:
        yield port
        server.kill()


async def test_no_group_with_a_finite_field_is_taken_either(observer: Observer, finite: int) -> None:
    observer.watch(f"postgresql://u:p@localhost:{finite}/app?sslmode=require&sslnegotiation=direct", FLOW)
    assert "groups P-256" in await observer.fails(FLOW, Reason.DATABASE_REFUSED)
    await observer.databases.close()


@pytest.mark.parametrize("mode", ["require", "prefer", "allow"])
async def test_a_server_that_takes_another_group_than_most_is_read_encrypted(
    observer: Observer, particular: Database, mode: str
) -> None:
    observer.watch(by_name(particular, mode), FLOW)
    await observer.reads(FLOW)
    assert await encryption(particular) == {True}
    await observer.databases.close()


@pytest.mark.parametrize("mode", ["prefer", "allow"])
async def test_where_encryption_is_only_preferred_such_a_server_is_read_without(
    observer: Observer, costly: Database, mode: str
) -> None:
    observer.watch(by_name(costly, mode), FLOW)
    await observer.reads(FLOW)
    assert await encryption(costly) == {False}


async def test_a_worker_verifies_with_the_file_that_its_pod_names(
    secure: tuple[Database, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, certificate = secure
    monkeypatch.setenv("PGSSLROOTCERT", str(certificate))
    connection = await connect(by_name(database, "verify-full"), application_name="test")
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await connection.close()


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Path, Path]]:
    """A database that lets workers in by their certificate alone; the certificate, and its key."""
    folder = tmp_path_factory.mktemp("client")
    certificate, key = self_signed(folder, name=WORKER_ROLE)
    with tempfile.TemporaryDirectory(prefix="flowworker-test-") as readable:
        Path(readable).chmod(0o755)
        trusted = Path(shutil.copy(certificate, readable))
        with running_tls_server(ssl_ca_file=str(trusted)) as (server, _):
            database = asyncio.run(built(server))
            rules = server.data / "pg_hba.conf"
            rules.write_text(f"hostssl all {WORKER_ROLE} all cert\n{rules.read_text()}")
            server.restart()
            yield database, certificate, key


async def test_a_server_that_asks_for_a_certificate_is_shown_the_one_of_the_secret(
    observer: Observer, asking: tuple[Database, Path, Path], tmp_path: Path
) -> None:
    database, certificate, key = asking
    dsn = by_name(database, "require")
    observer.watch(dsn, FLOW)
    assert "clientCertificateRef" in await observer.fails(FLOW, Reason.DATABASE_REFUSED)
    client = ClientCertificate(chain=certificate.read_text(), key=key.read_text())
    observer.watch(dsn, FLOW, client=client)
    await observer.reads(FLOW)
    other = [one.read_text() for one in self_signed(tmp_path, name="another")]
    observer.watch(dsn, FLOW, client=ClientCertificate(chain=other[0], key=other[1]))
    await observer.fails(FLOW, Reason.DATABASE_UNREACHABLE)  # of a certificate it does not trust it says nothing
    await observer.databases.close()


async def test_a_worker_shows_the_certificate_that_its_pod_names(
    asking: tuple[Database, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, certificate, key = asking
    monkeypatch.setenv("PGSSLCERT", str(certificate))
    monkeypatch.setenv("PGSSLKEY", str(key))
    connection = await connect(by_name(database, "require"), application_name="test")
    shown = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert await connection.fetchval(shown) == f"/CN={WORKER_ROLE}"
    await connection.close()


@pytest.fixture(scope="module")
def other_certificates(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Certificates that vouch for another server."""
    certificate, _ = self_signed(tmp_path_factory.mktemp("other"))
    return certificate.read_text()
