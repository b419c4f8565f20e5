"""Which connection a connection string stands for: two strings that lead to the same place share one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

import asyncpg
from asyncpg import connect_utils

from flowworker.errors import UsageError

EXPECTED = (
    "expected postgresql://user:password@host:port/database, with what is special in URIs (as / @ : ? # %) "
    "percent-encoded in user and password"
)


class _Parameters(Protocol):
    """What the driver makes of a connection string, as far as it matters here."""

    user: str
    password: str | None
    database: str
    sslmode: object
    ssl_negotiation: object
    target_session_attrs: object
    krbsrvname: str | None
    gsslib: str | None
    server_settings: Mapping[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Everything of a connection string that makes a difference; the password stays out of its text."""

    addresses: tuple[str, ...]
    user: str
    password: str | None
    database: str
    tls: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where it leads, without secrets."""
        return f"{','.join(self.addresses)}/{self.database}"

    def __repr__(self) -> str:
        return f"Endpoint({self.user}@{self.place})"


def parse_endpoint(dsn: str) -> Endpoint:
    """Read a connection string the way the driver does.

    Raises:
        UsageError: it is malformed. The message quotes nothing of it, because a password may be anywhere in it.
    """
    if not dsn.strip():
        raise UsageError(f"the connection string is empty: {EXPECTED}")
    try:
        parts = urlsplit(dsn)
        addresses, parameters = _parsed(dsn)
        options = parse_qsl(parts.query)
    except asyncpg.ClientConfigurationError as error:
        advice = _safe_advice(str(error))
        raise UsageError(f"the connection string is malformed: {advice}{EXPECTED}") from None
    except (ValueError, OSError, asyncpg.InternalClientError):
        raise UsageError(f"the connection string is malformed: {EXPECTED}") from None
    if any("@" in address for address in addresses):
        raise UsageError(f"the connection string is malformed: its host contains an @; {EXPECTED}")
    return Endpoint(
        addresses=addresses,
        user=parameters.user,
        password=parameters.password,
        database=parameters.database,
        tls=(
            str(parameters.sslmode),
            str(parameters.ssl_negotiation),
            *sorted(f"{name}={value}" for name, value in options if name.startswith("ssl") and name != "sslmode"),
        ),
        others=(
            str(parameters.target_session_attrs),
            str(parameters.krbsrvname),
            str(parameters.gsslib),
            *sorted(f"{name}={value}" for name, value in (parameters.server_settings or {}).items()),
        ),
    )


def _parsed(dsn: str) -> tuple[tuple[str, ...], _Parameters]:
    """The driver's own parser, which is not public: what it reads from environment and files counts, too."""
    parse = cast("Callable[..., Any]", connect_utils._parse_connect_dsn_and_args)  # pyright: ignore
    given = {**dict.fromkeys(signature(parse).parameters), "dsn": dsn}
    found: tuple[list[str | tuple[str, int]], _Parameters] = parse(**given)
    addresses, parameters = found
    return tuple(one if isinstance(one, str) else f"{one[0]}:{one[1]}" for one in addresses), parameters


def _safe_advice(text: str) -> str:
    """What the driver's words are about, where they quote nothing that could be secret."""
    if "scheme" in text:
        return "it does not begin with postgresql://; "
    known = ("sslmode", "sslnegotiation", "target_session_attrs", "root certificate", "TLS version", "user name")
    return next((f"the driver cannot use its {name}; " for name in known if name in text), "")
