"""Opening asyncpg connections the way every part of FlowWorker needs them."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, TypeAlias

import asyncpg

from flowworker.errors import AuthenticationError, DatabaseUnavailableError, MissingRightsError, UsageError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CONNECT_TIMEOUT = 10.0
"""Seconds for one attempt to connect."""

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
        UsageError: the DSN is malformed.
    """
    options: dict[str, Any] = {} if statement_cache else {"statement_cache_size": 0}
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT,
            server_settings={"application_name": application_name, **(settings or {})},
            **options,
        )
        await connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
        )
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError, ssl.SSLError) as error:
        raise AuthenticationError(f"the database refused the connection: {error}") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise MissingRightsError(f"the role may not connect: {error}") from error
    except asyncpg.ClientConfigurationError as error:
        raise UsageError(f"the connection string is wrong: {error}") from error
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
        raise DatabaseUnavailableError(f"no connection to the database: {describe(error)}") from error
    return connection


def describe(error: BaseException) -> str:
    """One line about an error, with its class where the text alone says nothing."""
    text = " ".join(str(error).split())
    return text if isinstance(error, asyncpg.PostgresError) and text else f"{type(error).__name__} {text}".strip()


def _encode_jsonb(value: bytes) -> bytes:
    return JSONB_VERSION + value


def _decode_jsonb(value: bytes) -> bytes:
    return bytes(value[1:])
