"""What the operator takes from a tenant's connection string, and that it opens nothing on its word."""

import ssl
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from testkit.support.tls import self_signed

from flowworker.errors import UsageError
from flowworker_operator.database.endpoint import LONGEST_DSN, MOST_HOSTS, parse_endpoint

SECRET = "geheim"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> str:
    certificate, _ = self_signed(tmp_path_factory.mktemp("tls"))
    return certificate.read_text()


FILES = [
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "passfile",
    "service",
    "servicefile",
]
CREDENTIALS = ["krbsrvname", "gsslib", "sslpassword", "requirepeer", "hostaddr", "oauth_issuer"]

_opened: list[str] | None = None


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event in {"open", "os.listdir", "os.scandir"}:
        _opened.append(str(arguments[0]))


sys.addaudithook(_hear)


@contextmanager
def opened() -> Generator[list[str]]:
    """The files that are opened inside."""
    global _opened
    _opened = found = list[str]()
    try:
        yield found
    finally:
        _opened = None


def refusal(dsn: str, certificates: str | None = None) -> str:
    with opened() as files, pytest.raises(UsageError) as caught:
        parse_endpoint(dsn, certificates)
    assert files == []
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [*FILES, *CREDENTIALS])
def test_what_names_a_file_or_a_credential_is_refused_by_name_before_any_file_is_touched(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / SECRET
    path.write_text("there and readable")
    for query in (f"{name}={path}", f"sslmode=verify-full&{name}={path}", f"password={SECRET}&{name}={path}"):
        assert f"holds {name}, " in refusal(f"postgresql://u:p@db/app?{query}")


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql:///app?host=/run/{SECRET}&user=u",
        f"postgresql://u:p@%2Frun%2F{SECRET}/app",
        f"postgresql://u:p@@{SECRET}/app",
        f"postgresql://u:p@%00{SECRET}/app",
        f"postgresql://u:p@db%0A{SECRET}/app",
        f"postgresql://u:p@db,%2Frun%2F{SECRET}/app",
        f"postgresql://u:p@{'a' * 300}/app",
        "postgresql://u:p@/app",
        "postgresql:///app",
        f"postgresql://u:{SECRET}@{','.join(['db'] * (MOST_HOSTS + 1))}/app",
        f"postgresql://db/{SECRET}",
        f"postgresql://u:{SECRET * LONGEST_DSN}@db/app",
        f"postgresql://u:p@db/app?my.{SECRET}=1",
        f"postgresql://u:p@db/app?password=a&{SECRET}=1",
    ],
)
def test_what_leads_to_no_host_of_its_own_is_refused(dsn: str) -> None:
    assert "connection string" in refusal(dsn)


def test_nothing_of_this_machine_stands_in_for_what_the_string_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ".postgresql"
    home.mkdir()
    for name in ("root.crt", "root.crl", "postgresql.crt", "postgresql.key"):
        (home / name).write_text(SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PGPASSWORD", "PGUSER", "PGDATABASE", "PGHOST", "PGSSLROOTCERT", "PGSERVICE"):
        monkeypatch.setenv(name, SECRET)
    with opened() as files:
        options = parse_endpoint("postgresql://u@db/?sslmode=require").arguments().options
    assert files == []
    assert (options["user"], options["password"], options["database"]) == ("u", "", "u")
    assert isinstance(options["ssl"], ssl.SSLContext)
    assert SECRET not in str(dict(options))


@pytest.mark.parametrize("password", ["a#b", "a?b", "a:b", "#", "%2F", "a&b=c"])
def test_a_password_is_read_as_the_worker_reads_it(password: str) -> None:
    endpoint = parse_endpoint(f"postgresql://u:{password}@db/app")
    assert endpoint.arguments().options["password"] == password.replace("%2F", "/")
    assert endpoint.place == "db:5432/app"


def test_what_makes_a_session_is_taken() -> None:
    query = (
        "target_session_attrs=read-write&connect_timeout=3&keepalives_idle=7&search_path=mine&options=-c%20jit%3Doff"
    )
    arguments = parse_endpoint(f"postgresql://u:p@a:1,[::1]:2/app?{query}").arguments()
    assert (arguments.options["host"], arguments.options["port"]) == (["a", "::1"], [1, 2])
    assert arguments.options["target_session_attrs"] == "read-write"
    assert arguments.timeout == 6.0
    assert dict(arguments.server_settings) == {"search_path": "mine", "options": "-c jit=off"}


def test_no_connection_string_asks_for_an_attempt_without_end() -> None:
    assert parse_endpoint("postgresql://u:p@db/app?connect_timeout=99999999").arguments().timeout == 30.0


@pytest.mark.parametrize(
    ("mode", "verify", "check_hostname"),
    [
        ("require", ssl.CERT_REQUIRED, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_certificates_come_as_text(certificates: str, mode: str, verify: ssl.VerifyMode, check_hostname: bool) -> None:
    with opened() as files:
        context = parse_endpoint(f"postgresql://u:p@db/app?sslmode={mode}", certificates).arguments().options["ssl"]
    assert files == []
    assert (context.verify_mode, context.check_hostname) == (verify, check_hostname)
    assert len(context.get_ca_certs()) == 1


def test_the_certificates_of_the_system_are_asked_for_by_name() -> None:
    query = "sslmode=verify-full&sslrootcert=system"
    context = parse_endpoint(f"postgresql://u:p@db/app?{query}").arguments().options["ssl"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("given", ["nonsense", "", "x" * 70_000, None])
def test_certificates_that_cannot_be_used_are_refused_with_the_field(given: str | None) -> None:
    assert "spec.database.caRef" in refusal("postgresql://u:p@db/app?sslmode=verify-full", given)


def test_other_certificates_are_another_endpoint(certificates: str) -> None:
    dsn = "postgresql://u:p@db/app?sslmode=require"
    assert parse_endpoint(dsn, certificates) == parse_endpoint(dsn, certificates)
    assert parse_endpoint(dsn, certificates) != parse_endpoint(dsn)
