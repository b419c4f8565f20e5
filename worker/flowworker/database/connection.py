"""Opening asyncpg connections the way every part of FlowWorker needs them."""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from flowworker.database.dsn import ConnectArguments, prepare, refused_parameter
from flowworker.errors import AuthenticationError, DatabaseUnavailableError, MissingRightsError, UsageError
from flowworker.redaction import HIDDEN, payloads_are_shown, redact, remember

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

AnyConnection: TypeAlias = "Connection | PoolConnectionProxy[asyncpg.Record]"
"""A connection of ours, of a pool, or of the caller. The caller's has codecs of its own, so JSON travels as text."""

CONNECT_TIMEOUT = 10.0
"""Seconds for one attempt to connect."""

LONGEST_TEXT = 4096
"""Characters of an error that are shown."""

ABOUT_VALUES = ("22",)
"""Classes of SQLSTATE whose message quotes the value that is wrong, and nothing else (data exceptions)."""
ABOUT_ENCODINGS = ("22021", "22P05")
"""Of these, those whose message quotes names of encodings, and the value as the bytes of one character."""
DETAIL_HOLDS_NO_ROW = ("08", "28", "3D", "40", "42501", "53", "54", "55", "57", "58", "F0")
"""SQLSTATE, or their beginning, whose DETAIL is about connections, roles, locks, resources and files."""
_MARK = r"[\"\u00ab\u00bb\u2018-\u201f\u2039\u203a\u300c-\u300f]"
_QUOTED = re.compile(rf"{_MARK}(?s:.*){_MARK}")
"""From the first quotation mark to the last, of whatever language."""

JSONB_VERSION = b"\x01"
"""The version byte before the text in PostgreSQL's binary format of jsonb."""

CONNECTION_LOST = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a statement sent at the moment in which the server ends the session
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What asyncpg raises when the database cannot be used now, although it may be later."""


async def connect(
    dsn: str, *, application_name: str, statement_cache: bool = True, settings: Mapping[str, str] | None = None
) -> Connection:
    """Open one connection on which jsonb travels as bytes.

    Args:
        dsn: a PostgreSQL URI; several hosts and `target_session_attrs` work.
        application_name: shown in pg_stat_activity.
        statement_cache: False for a transaction pooler.
        settings: further settings of the session.

    Raises:
        AuthenticationError: the server refused the user, password or certificate.
        MissingRightsError: the role may not connect to this database.
        DatabaseUnavailableError: no connection now; trying again later may work.
        UsageError: the DSN is malformed, or asks for what we, the server or a pooler cannot do. The message names the
            parameter and holds no part of the DSN.
    """
    arguments = prepare(dsn)
    remember(arguments.options.get("password"))
    return await open_connection(
        arguments, application_name=application_name, statement_cache=statement_cache, settings=settings
    )


async def open_connection(
    arguments: ConnectArguments,
    *,
    application_name: str,
    statement_cache: bool = True,
    settings: Mapping[str, str] | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Connection:
    """The same for a connection string that was looked at before, with an event loop that may see to the transport."""
    options: dict[str, Any] = {} if statement_cache else {"statement_cache_size": 0}
    try:
        connection = await _first_that_fits(
            arguments,
            loop=loop,
            server_settings={"application_name": application_name, **arguments.server_settings, **(settings or {})},
            **options,
        )
        _set_socket_options(connection, arguments.socket_options)
        await connection.set_type_codec(
            "jsonb",
            schema="pg_catalog",
            encoder=_encode_jsonb,
            decoder=_decode_jsonb,
            format="binary",
        )
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError, ssl.SSLError) as error:
        raise AuthenticationError(f"the database refused the connection: {describe(error)}") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise MissingRightsError(f"the role may not connect: {describe(error)}") from error
    except asyncpg.ClientConfigurationError as error:
        raise UsageError(f"the connection string is wrong: {describe(error)}") from error
    except ValueError:  # a host that is no name for DNS, or a variable such as PGPORT; the error may quote it
        raise UsageError("a host of the connection string, or a variable such as PGPORT, is malformed") from None
    except asyncpg.InvalidCatalogNameError as error:
        raise DatabaseUnavailableError(
            f"no connection to the database: {describe(error)}; create it, or correct the name in the connection string"
        ) from error
    except ConnectionRefusedError as error:
        raise DatabaseUnavailableError(
            f"no connection to the database: {describe(error)}; nothing listens there: check host and port, and that "
            "PostgreSQL (or `flowworker dev`) runs"
        ) from error
    except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
        if name := refused_parameter(error, arguments.server_settings):
            raise UsageError(f"the server or pooler refuses the parameter {name} of the connection string") from None
        raise DatabaseUnavailableError(f"no connection to the database: {describe(error)}") from error
    return connection


async def _first_that_fits(arguments: ConnectArguments, **options: Any) -> Connection:
    """Connect to the hosts in their order, as libpq does: one that is silent leaves time for those after it.

    asyncpg goes through the hosts as well, but what the first one takes of the time the others have not.
    """
    deadline = asyncio.get_running_loop().time() + (arguments.timeout or CONNECT_TIMEOUT)
    attempts = list(_attempts(arguments.options))
    failure: Exception | None = None
    for number, attempt in enumerate(attempts):
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        try:
            return await asyncpg.connect(timeout=left / (len(attempts) - number), **attempt, **options)
        except asyncpg.TargetServerAttributeNotMatched as error:
            failure = failure or error
        except (OSError, asyncpg.CannotConnectNowError) as error:
            failure = error
    assert failure is not None
    raise failure


def _attempts(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments of asyncpg for each host alone; where a standby is only preferred, for standbys before all others."""
    hosts: Sequence[str] = options.get("host") or ()
    if len(hosts) <= 1:
        yield dict(options)
        return
    port: Sequence[int] | int | None = options.get("port")
    ports = port if isinstance(port, Sequence) else [port] * len(hosts)
    target = options.get("target_session_attrs", "any")
    for wanted in ("standby", "any") if target == "prefer-standby" else (target,):
        for host, port in zip(hosts, ports, strict=True):
            yield {**options, "host": [host], "port": port, "target_session_attrs": wanted}


def _set_socket_options(connection: Connection, options: Sequence[tuple[int, int, int]]) -> None:
    """There is no public way: asyncpg takes no socket options, and keeps the transport to itself."""
    transport: asyncio.BaseTransport = connection._transport  # pyright: ignore
    opened = transport.get_extra_info("socket")
    if opened is not None and opened.family in (socket.AF_INET, socket.AF_INET6):
        for level, option, value in options:
            opened.setsockopt(level, option, value)


def describe(error: BaseException) -> str:
    """One line about an error, with its class where the text alone says nothing.

    The text may be a server's own, of any length: it is cut before anything else is done with it. It may be in any
    language: what quotes rows and values is known by where it stands and by the SQLSTATE, not by words.
    """
    if not isinstance(error, asyncpg.PostgresError):
        return f"{type(error).__name__} {_in_line(str(error))}".strip()
    return _in_line("\n".join(_parts(error))) or type(error).__name__


def _in_line(text: str) -> str:
    return " ".join(redact(text, limit=LONGEST_TEXT).split())


def _parts(error: asyncpg.PostgresError) -> Iterator[str]:
    """What a server says: the message, DETAIL unless it may be a row, and HINT."""
    sqlstate, shown = str(error.sqlstate or ""), payloads_are_shown()
    message = str(error.args[0] if error.args else "")
    quotes_values = sqlstate.startswith(ABOUT_VALUES) and sqlstate not in ABOUT_ENCODINGS
    yield _QUOTED.sub(HIDDEN, message) if quotes_values and not shown else message
    if error.detail and (shown or sqlstate.startswith(DETAIL_HOLDS_NO_ROW)):
        yield f"DETAIL:  {error.detail}"
    if error.hint:
        yield f"HINT:  {error.hint}"


_decode_jsonb = itemgetter(slice(len(JSONB_VERSION), None))
"""Not a function of ours: two values of each job pass through it."""


def _encode_jsonb(value: bytes) -> bytes:
    return JSONB_VERSION + value
