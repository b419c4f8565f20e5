"""From a connection string to what asyncpg is given: each parameter of libpq is obeyed, or refused by name.

asyncpg sends what it does not know to the server as a setting, and the server refuses it in words that look like an
outage. Here every parameter of libpq is known. A message names the parameter at fault and never its value.
"""

import getpass
import os
import random
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import asyncpg

from flowworker.database.uri import Uri, parse
from flowworker.errors import UsageError

DEFAULT_PORT = 5432

LEAST_CONNECT_TIMEOUT = 2
"""Seconds; libpq takes 1 for 2."""

SYSTEM_CERTIFICATES = "system"

FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl")
TLS = (*FILES, "sslmode", "sslpassword", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version")
"""What asyncpg reads from a URI alone, not from arguments."""
ARGUMENTS = ("passfile", "target_session_attrs", "krbsrvname", "gsslib")
"""Arguments of asyncpg under libpq's names."""

_TLS_VERSIONS = frozenset({"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
CHOICES: Mapping[str, frozenset[str]] = {
    "sslmode": frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}),
    "sslnegotiation": frozenset({"postgres", "direct"}),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": frozenset({"any", "primary", "standby", "prefer-standby", "read-write", "read-only"}),
    "gsslib": frozenset({"gssapi"}),
    "load_balance_hosts": frozenset({"disable", "random"}),
}
"""Values that are obeyed."""

HARMLESS: Mapping[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "gssdelegation": frozenset({"0"}),
    "sslsni": frozenset({"1"}),
    "sslcompression": frozenset({"0"}),
    "sslcertmode": frozenset({"allow"}),
    "replication": frozenset({"false", "off", "no", "0"}),
    "client_encoding": frozenset({"auto", "utf8", "utf-8", "unicode"}),
    "min_protocol_version": frozenset({"3.0"}),
    "max_protocol_version": frozenset({"3.0", "3.2", "latest"}),
}
"""Values that ask for what happens anyway; any other one asks for what asyncpg cannot do."""

NUMBERS = ("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
           "tcp_user_timeout")  # fmt: skip
LARGEST: Mapping[str, int] = {"keepalives_idle": 32767, "keepalives_interval": 32767, "keepalives_count": 127}
"""What Linux takes."""
IGNORED = ("fallback_application_name",)
"""We always have a name."""

REFUSED = frozenset(
    {"hostaddr", "require_auth", "requirepeer", "requiressl", "service", "servicefile", "sslcrldir", "sslkeylogfile",
     "scram_client_key", "scram_server_key", "oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"}
)  # fmt: skip
"""What asyncpg cannot do, and a service file, of which asyncpg prints lines where it is broken."""

SOCKET_OPTIONS: Mapping[str, tuple[str, int]] = {
    "keepalives_idle": ("TCP_KEEPIDLE", 5),
    "keepalives_interval": ("TCP_KEEPINTVL", 2),
    "keepalives_count": ("TCP_KEEPCNT", 3),
    "tcp_user_timeout": ("TCP_USER_TIMEOUT", 10_000),
}
"""The option of the socket, and the value where the string gives none: seconds, seconds, probes, milliseconds. The
kernel notices a peer that is gone within about ten seconds, also while a statement runs."""

_SETTING = re.compile(r"[A-Za-z_]\w*(\.\w+)*", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,9}", re.ASCII)
_STARTUP_PARAMETER = re.compile(r"startup parameter", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectArguments:
    """What a connection string comes to."""

    options: Mapping[str, Any] = field(repr=False)
    """Keyword arguments of `asyncpg.connect`."""
    server_settings: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Settings of the session that it asks for; sent when connecting."""
    socket_options: Sequence[tuple[int, int, int]] = ()
    """Level, option and value, for a connection over TCP."""
    timeout: float | None = None
    """Seconds for one attempt to connect to all hosts; None: it does not say."""


def prepare(dsn: str, *, shuffle: Callable[[list[Any]], None] = random.shuffle) -> ConnectArguments:
    """Check a connection string and give what asyncpg needs for it.

    Args:
        dsn: a PostgreSQL URI.
        shuffle: orders the hosts of a string with `load_balance_hosts=random`.

    Raises:
        UsageError: it is malformed, or asks for what we cannot do. The message names the parameter and holds no part
            of the connection string.
    """
    uri = parse(dsn)
    parameters = dict(uri.parameters)
    _check(parameters, secret_in_query=uri.secret_in_query)
    for name in IGNORED + tuple(HARMLESS):
        parameters.pop(name, None)
    numbers = {name: _number(name, parameters.pop(name)) for name in NUMBERS if name in parameters}
    places = _places(uri)
    if parameters.pop("load_balance_hosts", "") == "random":
        shuffle(places)
    options: dict[str, Any] = {name: parameters.pop(name) for name in ARGUMENTS if name in parameters}
    options |= _tls({name: parameters.pop(name) for name in TLS if name in parameters})
    options["host"] = [host for host, _ in places] or None
    options["port"] = [port for _, port in places] if any(uri.ports) and places else next(iter(uri.ports), None)
    options |= {"user": uri.user or _account(), "password": uri.password, "database": uri.database}
    return ConnectArguments(
        options={name: value for name, value in options.items() if value is not None},
        server_settings=parameters,
        socket_options=_socket_options(numbers),
        timeout=_timeout(numbers.get("connect_timeout", 0), hosts=len(places)),
    )


def is_refused_startup_parameter(error: BaseException) -> bool:
    """Whether a pooler refused a setting sent when connecting.

    PgBouncer knows client_encoding, datestyle, timezone, standard_conforming_strings and application_name, and what
    `track_extra_parameters` and `ignore_startup_parameters` name; any other ends the connection with 08P01.
    """
    return isinstance(error, asyncpg.ProtocolViolationError) and bool(_STARTUP_PARAMETER.search(str(error)))


def refused_parameter(error: BaseException, names: Iterable[str]) -> str | None:
    """Which of these parameters the server or a pooler refused while connecting; None: it is about something else."""
    refusals = (asyncpg.UndefinedObjectError, asyncpg.CantChangeRuntimeParamError, asyncpg.InvalidParameterValueError,
                asyncpg.InvalidNameError)  # fmt: skip
    if not (isinstance(error, refusals) or is_refused_startup_parameter(error)):
        return None
    words = set(re.findall(r"[\w.]+", str(error).lower()))
    known = list(names)
    return next((name for name in known if name.lower() in words), "options" if "options" in known else None)


def _check(parameters: Mapping[str, str], *, secret_in_query: bool) -> None:
    for name, value in parameters.items():
        if name in REFUSED:
            raise UsageError(f"the connection string asks for {name}, which is not supported: leave it out")
        allowed = CHOICES.get(name) or HARMLESS.get(name)
        if allowed is not None and (value if name in CHOICES else value.lower()) not in allowed:
            raise UsageError(
                f"the connection string gives {name} a value that is not supported; it may be "
                f"{' or '.join(sorted(allowed))}"
            )
        if name in FILES and not (name == "sslrootcert" and value == SYSTEM_CERTIFICATES):
            _check_file(name, value)
        known = allowed is not None or name in (*TLS, *ARGUMENTS, *NUMBERS, *IGNORED, "options", "application_name")
        # A password in the query that holds a bare & ends in a name: then no unknown name is shown, nor sent.
        if not known and (secret_in_query or not _SETTING.fullmatch(name)):
            raise UsageError(
                "the connection string holds a parameter of a name that libpq does not have; in a password & is "
                "written %26"
            )


def _check_file(name: str, path: str) -> None:
    if not (os.path.isfile(path) and os.access(path, os.R_OK)):
        raise UsageError(f"the connection string names a file for {name} that cannot be read")


def _number(name: str, value: str) -> int:
    largest = LARGEST.get(name, 10**9)
    if not _NUMBER.fullmatch(value) or int(value) > largest:
        raise UsageError(f"the connection string gives {name} a value that is no whole number up to {largest}")
    return int(value)


def _places(uri: Uri) -> list[tuple[str, int]]:
    ports = uri.ports if len(uri.ports) == len(uri.hosts) else [*(uri.ports or [None])] * len(uri.hosts)
    return [(host, port or DEFAULT_PORT) for host, port in zip(uri.hosts, ports, strict=True)]


def _account() -> str | None:
    """What libpq and asyncpg take for the user where none is named; in a container its id may have no name."""
    if found := os.environ.get("PGUSER"):
        return found
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise UsageError("the connection string names no user, and this process's user has no name") from None


def _timeout(seconds: int, *, hosts: int) -> float | None:
    """Where libpq gives each host the time, asyncpg counts it for all of them."""
    return None if seconds <= 0 else float(max(seconds, LEAST_CONNECT_TIMEOUT) * max(hosts, 1))


def _socket_options(numbers: Mapping[str, int]) -> Sequence[tuple[int, int, int]]:
    """As in libpq keepalives are on unless switched off, and 0 leaves a value to the system."""
    alive = numbers.get("keepalives", 1) != 0
    found = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(alive))]
    for name, (option, default) in SOCKET_OPTIONS.items():
        value = numbers.get(name, default)
        if value > 0 and hasattr(socket, option) and (alive or not name.startswith("keepalives")):
            found.append((socket.IPPROTO_TCP, getattr(socket, option), value))
    return found


def _tls(parameters: dict[str, str]) -> Mapping[str, Any]:
    if parameters.get("sslrootcert") != SYSTEM_CERTIFICATES:
        return {"dsn": f"postgresql://?{urlencode(parameters)}"} if parameters else {}
    if parameters.get("sslmode", "verify-full") != "verify-full":
        raise UsageError("the connection string asks for the system's sslrootcert: that needs sslmode=verify-full")
    if unsupported := {"sslcrl", "ssl_min_protocol_version", "ssl_max_protocol_version"} & parameters.keys():
        raise UsageError(
            f"the connection string gives {min(unsupported)} with the system's sslrootcert, which is not supported"
        )
    context = ssl.create_default_context()
    _load_certificate(context, parameters)
    return {"ssl": context, "direct_tls": parameters.get("sslnegotiation") == "direct"}


def _load_certificate(context: ssl.SSLContext, parameters: Mapping[str, str]) -> None:
    certificate = parameters.get("sslcert") or os.environ.get("PGSSLCERT")
    if not certificate:
        return
    key = parameters.get("sslkey") or os.environ.get("PGSSLKEY") or None
    try:
        context.load_cert_chain(certificate, key, password=lambda: parameters.get("sslpassword", ""))
    except (OSError, ValueError):
        raise UsageError("the client certificate that sslcert or PGSSLCERT names cannot be used") from None
