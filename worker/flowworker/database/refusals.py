"""Turning what asyncpg raises into our errors, for statements that a person or a client program asked for."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from flowworker.database.connection import Connection, describe
from flowworker.database.faults import UNAVAILABLE
from flowworker.database.pooler import LOST_STATEMENT, REMEDY
from flowworker.errors import (
    DatabaseUnavailableError,
    DataError,
    MissingRightsError,
    UnsupportedSchemaError,
    UsageError,
)

AnyConnection: TypeAlias = "Connection | PoolConnectionProxy[asyncpg.Record]"
"""A connection of ours, of a pool, or of the caller. The caller's has codecs of its own, so JSON travels as text."""

MISSING_OBJECT = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
)


@contextmanager
def translated(purpose: str) -> Generator[None]:
    """Raise our errors for what went wrong while doing `purpose` ("start a run of 'mail'").

    Raises:
        MissingRightsError: the role may not do it.
        UnsupportedSchemaError: a schema, table or function is missing.
        DataError: PostgreSQL cannot store a value (NaN and U+0000 have no place in jsonb), or refuses the statement.
        UsageError: a pooler in transaction mode loses prepared statements.
        DatabaseUnavailableError: the database cannot be used now.
    """
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise MissingRightsError(
            f"the database role may not {purpose}: {describe(error)}; "
            "grant it what a worker needs with `flowworker db install --role ROLE`"
        ) from error
    except LOST_STATEMENT as error:
        raise UsageError(f"cannot {purpose}: a prepared statement got lost: {REMEDY}") from error
    except MISSING_OBJECT as error:
        raise UnsupportedSchemaError(
            f"cannot {purpose}: {describe(error)}; install what is missing with `flowworker db install`"
        ) from error
    except (asyncpg.DataError, ValueError) as error:
        raise DataError(f"cannot {purpose}: PostgreSQL refuses the value: {describe(error)}") from error
    except (*UNAVAILABLE, asyncpg.LockNotAvailableError) as error:
        raise DatabaseUnavailableError(f"cannot {purpose} now: {describe(error)}") from error
    except asyncpg.PostgresError as error:
        raise DataError(f"cannot {purpose}: the database refuses it: {describe(error)}") from error
