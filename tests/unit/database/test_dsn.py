"""A connection string is obeyed by libpq's rules or refused by name, and nothing of it is ever shown."""

import socket
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowworker.database.dsn import is_refused_startup_parameter, prepare, refused_parameter
from flowworker.errors import ExitCode, UsageError

SECRET = "geheim"

PASSWORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def options(dsn: str) -> dict[str, Any]:
    return dict(prepare(dsn).options)


def refusal(dsn: str) -> str:
    """The message; checked to be one line that shows nothing of the string, in tracebacks and causes neither."""
    with pytest.raises(UsageError) as caught:
        prepare(dsn)
    error = caught.value
    assert error.exit_code is ExitCode.USAGE
    assert "\n" not in str(error)
    shown = "".join(traceback.format_exception(error)[-1:]) + str(error.__cause__) + str(error.__context__)
    assert SECRET not in shown
    return str(error)


@given(PASSWORDS)
def test_an_encoded_password_arrives_as_it_is(password: str) -> None:
    encoded = quote(password, safe="")
    assert options(f"postgresql://u:{encoded}@h/db")["password"] == password
    assert options(f"postgresql://h/db?user=u&password={encoded}")["password"] == password


@given(PASSWORDS.filter(lambda password: "%" not in password))
def test_a_bare_password_arrives_as_it_is_or_is_not_shown(password: str) -> None:
    dsn = f"postgresql://u:{SECRET}{password}{SECRET}@h/db"
    if any(character in "@/" or character.isspace() or not character.isprintable() for character in password):
        refusal(dsn)
    else:
        assert (options(dsn)["host"], options(dsn)["password"]) == (["h"], f"{SECRET}{password}{SECRET}")


@pytest.mark.parametrize("password", ["a#b", "a?b", "a:b", "#", "a&b=c", "ü#"])
def test_what_libpq_takes_in_a_password_is_taken(password: str) -> None:
    assert options(f"postgresql://u:{password}@h/db")["password"] == password


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:x@{SECRET}@h/db",
        f"postgresql://u:x/{SECRET}@h/db",
        f"postgresql://u:12/{SECRET}@h/db",
        f"postgresql://u:12/x?{SECRET}=y@h/db",
        f"postgresql://u:x {SECRET}@h/db",
        f"postgresql://u:x\n{SECRET}@h/db",
        f"postgresql://u:%{SECRET}@h/db",
        f"postgresql://u:{SECRET}%00@h/db",
        f"postgresql://u:{SECRET}%ff@h/db",
        f"postgresql://u:x[{SECRET}/db",
        f"postgresql://u:{SECRET}",
        f"postgresql://u@h:{SECRET}/db",
        f"postgresql://u@h:5432:{SECRET}/db",
        f"postgresql://u@h:99999{SECRET}/db",
        f"postgresql://u@[{SECRET}/db",
        f"postgresql://u@h,,{SECRET}/db",
        f"postgresql://h/db?user=u&password=x&{SECRET}=y",
        f"postgresql://h/db?user=u&password=x&{SECRET}",
        f"postgresql://h/db?user=u&{SECRET}-=y",
        f"postgresql://h/db?user=u&port={SECRET}",
        f"postgresql://h1,h2/db?user=u&port=1,2,3&password={SECRET}",
        f"host=h password={SECRET}",
        f"mysql://u:{SECRET}@h/db",
        SECRET,
        "",
    ],
)
def test_a_malformed_string_is_refused_and_nothing_of_it_is_shown(dsn: str) -> None:
    assert "connection string" in refusal(dsn)


@pytest.mark.parametrize(
    "name",
    ["channel_binding", "gssencmode", "sslmode", "sslnegotiation", "target_session_attrs", "load_balance_hosts",
     "connect_timeout", "keepalives", "keepalives_idle", "tcp_user_timeout", "hostaddr", "require_auth",
     "requirepeer", "service", "servicefile", "sslcrldir", "sslsni", "sslcertmode", "gsslib", "replication",
     "client_encoding", "min_protocol_version", "ssl_min_protocol_version", "sslrootcert", "sslcert", "sslkey",
     "sslcrl", "scram_client_key", "oauth_client_secret"],
)  # fmt: skip
def test_a_value_that_cannot_be_obeyed_is_refused_by_the_parameter_s_name(name: str) -> None:
    message = refusal(f"postgresql://u:p@h/db?{name}={SECRET}")
    assert name in message


def test_channel_binding_cannot_be_required() -> None:
    assert "channel_binding" in refusal("postgresql://u:p@h/db?channel_binding=require")


@pytest.mark.parametrize(
    "harmless",
    ["channel_binding=prefer", "gssencmode=disable", "sslsni=1", "client_encoding=UTF8", "max_protocol_version=latest",
     "fallback_application_name=psql", "require_auth="],
)  # fmt: skip
def test_what_happens_anyway_may_be_asked_for(harmless: str) -> None:
    prepared = prepare(f"postgresql://u:p@h/db?{harmless}")
    assert prepared.options == {"host": ["h"], "user": "u", "password": "p", "database": "db"}
    assert prepared.server_settings == {}


def test_the_time_to_connect_counts_for_each_host() -> None:
    assert prepare("postgresql://u@h/db?connect_timeout=7").timeout == 7
    assert prepare("postgresql://u@h,i/db?connect_timeout=1").timeout == 4
    assert prepare("postgresql://u@h/db?connect_timeout=0").timeout is None
    assert prepare("postgresql://u@h/db").timeout is None


def test_keepalives_become_socket_options() -> None:
    prepared = prepare(
        "postgresql://u@h/db?keepalives_idle=5&keepalives_interval=2&keepalives_count=3&tcp_user_timeout=9"
    )
    assert set(prepared.socket_options) == {
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 9),
    }
    off = prepare("postgresql://u@h/db?keepalives=0&keepalives_idle=5&tcp_user_timeout=0")
    assert off.socket_options == [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)]


@pytest.mark.parametrize("beyond", ["keepalives_idle=32768", "keepalives_count=128", "connect_timeout=99999999999"])
def test_a_number_that_the_kernel_refuses_is_refused_by_name(beyond: str) -> None:
    assert beyond.split("=")[0] in refusal(f"postgresql://u@h/db?{beyond}")


def test_a_peer_that_is_gone_is_noticed_where_the_string_says_nothing() -> None:
    assert (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5) in prepare("postgresql://u@h/db").socket_options


def test_hosts_are_tried_in_their_order_or_in_a_random_one() -> None:
    dsn = "postgresql://u@h1,h2:7/db?target_session_attrs=read-write"
    assert options(dsn)["host"] == ["h1", "h2"]
    assert options(dsn)["port"] == [5432, 7]
    assert options(dsn)["target_session_attrs"] == "read-write"
    shuffled = prepare(dsn + "&load_balance_hosts=random", shuffle=lambda places: places.reverse())
    assert (shuffled.options["host"], shuffled.options["port"]) == (["h2", "h1"], [7, 5432])


def test_the_query_overrides_what_stands_before_it() -> None:
    found = options("postgresql://u:p@h:1/db?host=%2Frun%2Fpg&port=2&user=v&password=q&dbname=other")
    assert found == {"host": ["/run/pg"], "port": [2], "user": "v", "password": "q", "database": "other"}


def test_settings_of_the_session_are_passed_on() -> None:
    found = prepare(
        "postgresql://u@h/db?application_name=mine&options=-c%20jit%3Doff&statement_timeout=5s&app.tenant=7"
    )
    assert found.server_settings == {
        "application_name": "mine", "options": "-c jit=off", "statement_timeout": "5s", "app.tenant": "7"
    }  # fmt: skip


def test_ssl_true_is_libpq_s_alias() -> None:
    assert options("postgresql://u@h/db?ssl=true")["dsn"] == "postgresql://?sslmode=require"


def test_the_system_s_certificates_verify_the_host() -> None:
    found = options("postgresql://u@h/db?sslrootcert=system")
    assert found["ssl"].check_hostname
    assert "sslrootcert" in refusal("postgresql://u@h/db?sslrootcert=system&sslmode=require")


def test_a_file_that_exists_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "root.crt").write_text("")
    assert "root.crt" in options(f"postgresql://u@h/db?sslmode=verify-ca&sslrootcert={tmp_path}/root.crt")["dsn"]


def test_a_process_whose_user_has_no_name_must_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.delenv("PGUSER", raising=False)
    monkeypatch.setattr("getpass.getuser", nameless)
    assert "user" in refusal("postgresql://h/db")
    assert options("postgresql://u@h/db")["user"] == "u"


def test_a_password_does_not_show_in_the_arguments() -> None:
    assert SECRET not in repr(prepare(f"postgresql://u:{SECRET}@h/db?app.key={SECRET}"))


def test_a_pooler_s_refusal_of_a_setting_is_recognised() -> None:
    refused = asyncpg.ProtocolViolationError("unsupported startup parameter: statement_timeout")
    newer = asyncpg.ProtocolViolationError("unsupported startup parameter in options: jit")
    assert is_refused_startup_parameter(refused)
    assert is_refused_startup_parameter(newer)
    assert not is_refused_startup_parameter(asyncpg.ProtocolViolationError("invalid frontend message type"))
    assert refused_parameter(refused, ["jit", "statement_timeout"]) == "statement_timeout"
    assert refused_parameter(newer, ["options"]) == "options"
    assert refused_parameter(refused, []) is None
    assert refused_parameter(asyncpg.CannotConnectNowError("starting up"), ["options"]) is None
