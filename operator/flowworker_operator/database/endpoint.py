"""Where a tenant's connection string leads, and what we do on its word: connect over TCP, and open no file.

The string comes from a Secret that a tenant writes, and is read in the operator's own pod. So of
libpq's parameters only those are taken that name no file and no credential of the machine; the password is the
string's own or none at all, never one that lies here; and certificates come as text, from a Secret too.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from flowworker.database.dsn import (
    ARGUMENTS,
    CHOICES,
    DEFAULT_PORT,
    FILES,
    HARMLESS,
    IGNORED,
    NUMBERS,
    REFUSED,
    SYSTEM_CERTIFICATES,
    TLS,
    ConnectArguments,
    prepare,
)
from flowworker.database.uri import Uri, parse
from flowworker.errors import UsageError
from flowworker_operator.database.client_certificate import ClientCertificate

ALLOWED = (
    frozenset({*CHOICES, *HARMLESS, *NUMBERS, *IGNORED, "sslrootcert", "application_name", "options"}) - {"gsslib"}
)  # fmt: skip
"""Parameters of libpq that are taken; `sslrootcert` only with the value `system`."""

SETTINGS = frozenset(
    {"idle_in_transaction_session_timeout", "lock_timeout", "role", "search_path", "statement_timeout", "timezone"}
)
"""Settings of the session that are taken by name; `options` takes all."""

KNOWN = frozenset({*ALLOWED, *FILES, *TLS, *ARGUMENTS, *REFUSED})
"""Names of libpq: none of them can be a part of a password."""

MOST_HOSTS = 8
LONGEST_DSN = 8192
LONGEST_AUTHORITY = 65_536
"""Characters of the certificates in PEM: about forty."""
LONGEST_CONNECT = 30.0
"""Seconds for one attempt to connect, whatever the connection string asks for."""

SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!SHA1:!AESCCM"
"""Of TLS 1.2. With DHE a server chooses a group of any size, whose arithmetic keeps the event loop for a third of a
second at each attempt to connect."""
GROUPS = ("prime256v1", "X25519", "secp384r1", "secp521r1")
"""For the exchange of keys: P-256, which PostgreSQL takes unless it is configured otherwise, and what it may be
configured for. Python allows one at a time, or all that OpenSSL has; among these are those of TLS 1.3 with finite
fields, of which the largest keeps the event loop for a tenth of a second at each attempt to connect."""

DEFAULT_MODE = "prefer"
VERIFYING = frozenset({"verify-ca", "verify-full"})
ENCRYPTING = VERIFYING | {"require"}

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?|[0-9A-Fa-f:.]{2,45}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Everything of a connection string that makes a difference; the password stays out of its text."""

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    database: str
    parameters: tuple[tuple[str, str], ...]
    authority: str | None
    """Certificates in PEM that vouch for the server; None: none are given."""
    client: ClientCertificate | None
    dsn: str = field(compare=False)

    @property
    def place(self) -> str:
        """Where it leads, without secrets."""
        addresses = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{','.join(addresses)}/{self.database}"

    @property
    def begins_with_tls(self) -> bool:
        """Whether TLS begins at once, as with any server that speaks it: its errors show other servers too."""
        return ("sslnegotiation", "direct") in self.parameters

    def __repr__(self) -> str:
        return f"Endpoint({self.user}@{self.place})"

    def arguments(self, group: str = GROUPS[0]) -> ConnectArguments:
        """What the driver is given: nothing of it comes from our environment or home.

        Args:
            group: for the exchange of keys, where TLS is sure; contexts are shared, so it may not be changed in one.

        With `sslmode` prefer or allow the driver still looks for a client's certificate in the home of this process,
        which has none.
        """
        prepared = prepare(self.dsn)
        parameters = dict(self.parameters)
        options: dict[str, Any] = {
            "host": prepared.options["host"],
            "port": prepared.options.get("port", DEFAULT_PORT),
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "target_session_attrs": parameters.get("target_session_attrs", "any"),
            "direct_tls": parameters.get("sslnegotiation") == "direct",
            "ssl": _tls(parameters, self.authority, self.client, group),
        }
        return ConnectArguments(
            options=options,
            server_settings=prepared.server_settings,
            socket_options=prepared.socket_options,
            timeout=None if prepared.timeout is None else min(prepared.timeout, LONGEST_CONNECT),
        )


def parse_endpoint(dsn: str, authority: str | None = None, client: ClientCertificate | None = None) -> Endpoint:
    """Read a tenant's connection string. No file is looked at.

    Args:
        dsn: a PostgreSQL URI.
        authority: certificates in PEM that vouch for the server.
        client: what is shown to a server that asks for a certificate.

    Raises:
        UsageError: it is malformed, or asks for what a tenant may not. The message names the parameter and quotes
            nothing of a value, because a password may be anywhere in it.
    """
    if not dsn.strip():
        raise UsageError("the connection string is empty; it must be a URI that begins with postgresql://")
    if len(dsn) > LONGEST_DSN:
        raise UsageError(f"the connection string has more than {LONGEST_DSN} characters")
    uri = parse(dsn)
    _check_parameters(uri)
    _check_hosts(uri)
    prepare(dsn)
    if not uri.user:
        raise UsageError("the connection string names no user")
    parameters = {"sslmode": DEFAULT_MODE, **uri.parameters}
    endpoint = Endpoint(
        hosts=tuple(zip(uri.hosts, _ports(uri), strict=True)),
        user=uri.user,
        password=uri.password or "",
        database=uri.database or uri.user,
        parameters=tuple(sorted(parameters.items())),
        authority=authority,
        client=client,
        dsn=dsn,
    )
    _tls(parameters, authority, client)
    return endpoint


def _check_parameters(uri: Uri) -> None:
    for name, value in uri.parameters.items():
        if name in ALLOWED | SETTINGS and not (name == "sslrootcert" and value != SYSTEM_CERTIFICATES):
            continue
        advice = "leave it out"
        if name == "sslrootcert":
            advice = "it may only be system; give certificates by spec.database.caRef"
        elif name in {"sslcert", "sslkey", "sslpassword"}:
            advice = "leave it out, and give certificate and key by spec.database.clientCertificateRef"
        elif name not in KNOWN:
            advice = "write settings of the session as options=-c%20NAME%3DVALUE"
        shown = name if name in KNOWN or (name.isidentifier() and not uri.secret_in_query) else "a parameter"
        raise UsageError(f"the connection string holds {shown}, which the operator does not take: {advice}")


def _check_hosts(uri: Uri) -> None:
    if not uri.hosts:
        raise UsageError("the connection string names no host")
    if len(uri.hosts) > MOST_HOSTS:
        raise UsageError(f"the connection string names more than {MOST_HOSTS} hosts")
    if not all(_HOST.fullmatch(host) for host in uri.hosts):
        raise UsageError(
            "a host of the connection string is neither a name nor an address; the operator takes no folders of sockets"
        )


def _ports(uri: Uri) -> list[int]:
    ports = uri.ports if len(uri.ports) == len(uri.hosts) else [*(uri.ports or [None])] * len(uri.hosts)
    return [port or DEFAULT_PORT for port in ports]


def _tls(
    parameters: Mapping[str, str],
    authority: str | None,
    client: ClientCertificate | None,
    group: str = GROUPS[0],
) -> ssl.SSLContext | str | bool:
    """What the driver takes for TLS. A context of ours, because it would look for files to make its own."""
    mode = parameters["sslmode"]
    if parameters.get("sslrootcert") == SYSTEM_CERTIFICATES:
        return _system_context(group) if client is None else client.shown_by(_system_context.__wrapped__(group))
    if mode in VERIFYING and authority is None:
        raise UsageError(
            f"the connection string asks for sslmode={mode}: that needs certificates, from spec.database.caRef, or "
            "sslrootcert=system"
        )
    if mode not in ENCRYPTING:
        if client is not None:
            raise UsageError(
                f"spec.database.clientCertificateRef needs sslmode=require, verify-ca or verify-full in the connection "
                f"string; it is {mode}"
            )
        return False if mode == "disable" else mode
    make = _context if client is None else _context.__wrapped__  # no key is kept longer than its connection string
    context = make(
        authority,
        check_hostname=mode == "verify-full",
        oldest=parameters.get("ssl_min_protocol_version", "TLSv1.2"),
        newest=parameters.get("ssl_max_protocol_version"),
        group=group,
    )
    return context if client is None else client.shown_by(context)


@lru_cache(maxsize=len(GROUPS))
def _system_context(group: str) -> ssl.SSLContext:
    return _negotiating(ssl.create_default_context(), group)


@lru_cache(maxsize=32)
def _context(
    authority: str | None, *, check_hostname: bool, oldest: str, newest: str | None, group: str
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname
    context.verify_mode = ssl.CERT_NONE if authority is None else ssl.CERT_REQUIRED
    try:
        context.minimum_version = _version(oldest)
        if newest is not None:
            context.maximum_version = _version(newest)
    except ValueError:
        raise UsageError("the versions of TLS that the connection string asks for are not supported") from None
    if authority is not None:
        _trust(context, authority)
    return _negotiating(context, group)


def _trust(context: ssl.SSLContext, authority: str) -> None:
    if len(authority) > LONGEST_AUTHORITY:
        raise UsageError(f"spec.database.caRef: more than {LONGEST_AUTHORITY} characters")
    try:
        context.load_verify_locations(cadata=authority)
    except (ssl.SSLError, ValueError):
        raise UsageError("spec.database.caRef: it holds no certificates in PEM that can be used") from None


def _negotiating(context: ssl.SSLContext, group: str) -> ssl.SSLContext:
    context.set_alpn_protocols(["postgresql"])
    restrict(context, group)
    return context


def restrict(context: ssl.SSLContext, group: str) -> None:
    """Leave a server no choice of what a handshake costs us."""
    context.set_ciphers(SUITES)
    context.set_ecdh_curve(group)


def _version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]
