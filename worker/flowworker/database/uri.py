"""A PostgreSQL URI taken apart by libpq's rules, before any library sees it. Pure.

asyncpg parses with urllib, which cuts a password at `#` or `?`, takes what follows for a port and prints it. So the
connection string is taken apart here, and no error of this module holds any part of it. Stricter than libpq in one
thing: a bare `@` may stand only once, after user and password, and the name of a host holds only what names hold. Then
no part of a password can end up in the place of a host, a database or a parameter.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote_to_bytes

from flowworker.errors import UsageError

SCHEMES = ("postgresql://", "postgres://")
LAST_PORT = 65535

_HOST = re.compile(r"(?P<name>\[[^\]]+\]|[^\[\]:]*)(?::(?P<port>.*))?")
_NAME = re.compile(r"[\w.-]*|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[/@][\w./-]+")
"""Of a host: a name or an address, an IPv6 address in brackets, the folder of a socket."""
_PARAMETER = re.compile(r"\?\w+=", re.ASCII)
"""In front of an `@`: the `@` stands in a parameter, such as the password."""
_PORT = re.compile("[0-9]{1,5}")
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uri:
    """What a connection string says; None where it says nothing."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    hosts: Sequence[str] = ()
    """Names, addresses or folders of sockets; empty: the machine's own."""
    ports: Sequence[int | None] = ()
    """One for each host, or one for all of them."""
    database: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """The rest of the query; parameters with an empty value are left out, as libpq reads them."""
    secret_in_query: bool = False
    """A password stands among the parameters: what follows a bare & in it looks like a name."""


def parse(text: str) -> Uri:
    """Take a connection string apart.

    Raises:
        UsageError: it is no PostgreSQL URI; the message says where, and holds no part of it.
    """
    text = text.strip()
    rest = next((text[len(scheme) :] for scheme in SCHEMES if text.lower().startswith(scheme)), None)
    if rest is None:
        _refuse("it must be a URI that begins with postgresql://")
    if any(character.isspace() or not character.isprintable() for character in rest):
        _refuse("it holds a space, a line break or a control character; a space is written %20")
    credentials, _, place = rest.rpartition("@")
    if "@" in credentials or "/" in credentials or _PARAMETER.search(credentials):
        _refuse("an @ may stand only between password and host; in a password @ is written %40 and / is written %2F")
    user, _, password = credentials.partition(":")
    location, _, query = place.partition("?")
    authority, _, database = location.partition("/")
    hosts, ports = _hosts(authority)
    parameters = _parameters(query)
    secret_in_query = "password" in parameters or "sslpassword" in parameters
    if "host" in parameters:
        hosts, ports = [_host(name) for name in parameters.pop("host").split(",")], ()
    if "port" in parameters:
        ports = [_port(port) for port in parameters.pop("port").split(",")]
    if hosts and len(ports) > 1 and len(ports) != len(hosts):
        _refuse("it names another number of ports than of hosts")
    return Uri(
        user=parameters.pop("user", None) or _decoded(user) or None,
        password=parameters.pop("password", None) or _decoded(password) or None,
        hosts=hosts,
        ports=ports,
        database=parameters.pop("dbname", None) or _decoded(database) or None,
        parameters=parameters,
        secret_in_query=secret_in_query,
    )


def _hosts(authority: str) -> tuple[Sequence[str], Sequence[int | None]]:
    found = [_HOST.fullmatch(part) for part in authority.split(",")] if authority else []
    if any(match is None for match in found):
        _refuse("its host is none; a : in a password is written %3A, and an IPv6 address stands in brackets")
    pairs = [(match["name"], match["port"]) for match in found if match is not None]
    hosts = [_host(_decoded(name)) for name, _ in pairs]
    if len(hosts) > 1 and not all(hosts):
        _refuse("one of its hosts is empty")
    return (hosts if any(hosts) else ()), [_port(port) if port else None for _, port in pairs]


def _host(name: str) -> str:
    if not _NAME.fullmatch(name):
        _refuse("its host is none; in a password @ is written %40, / is written %2F and ? is written %3F")
    return name.strip("[]")


def _port(text: str) -> int:
    if not (_PORT.fullmatch(text) and 0 < int(text) <= LAST_PORT):
        _refuse(f"its port is no number from 1 to {LAST_PORT}; in a password / is written %2F and @ is written %40")
    return int(text)


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if not (name and equals):
            _refuse("a parameter after the ? has no name or no =; in a password ? is written %3F and & is written %26")
        found[_decoded(name)] = _decoded(value)
    if found.get("ssl") == "true":  # libpq's alias, for URIs made for JDBC
        found.setdefault("sslmode", "require")
        del found["ssl"]
    if "database" in found:  # asyncpg's alias
        found.setdefault("dbname", found.pop("database"))
    return {name: value for name, value in found.items() if value}


def _decoded(text: str) -> str:
    if _BROKEN_ESCAPE.search(text):
        _refuse("a % in it is not followed by two hexadecimal digits; a % is written %25")
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        _refuse("an escape such as %FF in it gives no UTF-8 text")
    return decoded


def _refuse(reason: str) -> NoReturn:
    raise UsageError(f"the connection string is malformed: {reason}")
