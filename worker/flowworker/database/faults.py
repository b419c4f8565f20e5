"""What an error of asyncpg means: to a worker, which may try again, and to who asked for one statement.

A worker asks whether to come back later, to try again now, or to give up on a value. For a person or a client program
`translated` raises one of our errors.
"""

from collections.abc import Generator
from contextlib import contextmanager

import asyncpg

from flowworker.database.connection import CONNECTION_LOST, describe
from flowworker.database.pooler import LOST_STATEMENT, REMEDY
from flowworker.errors import (
    AccessError,
    DatabaseUnavailableError,
    DataError,
    MissingRightsError,
    UnsupportedSchemaError,
    UsageError,
)

CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""Two transactions met; repeating ours is safe and expected to work."""

UNAVAILABLE = (
    *CONNECTION_LOST,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
)
"""The database cannot be used now; nothing is wrong with the statement."""

TIMED_OUT = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
"""A statement took longer than its session allows, or was cancelled by hand. It is over and rolled back, and its
connection is good: the work is too much, or something it needs is locked."""

REFUSED_VALUES = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.PLPGSQLError,
)
"""The database, a constraint, a trigger or the driver (as DataError) cannot take one of the values sent."""

MISSING_OBJECT = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
)
"""A schema, table, function or column that an installation makes is not there."""

WORKER_ROLE_OPTION = "--role"
"""Of `flowworker db install`: gives a role what a worker needs."""

CLIENT_ROLE_OPTION = "--client-role"
"""Of `flowworker db install`: gives a role what it takes to start runs."""

ADMIN_ROLE_OPTION = "--admin-role"
"""Of `flowworker db install`: gives a role what it takes to cancel."""


def refusal_of(error: BaseException, purpose: str) -> MissingRightsError | None:
    """The lasting refusal an error means for `purpose` ("claim from 'mail'"); None where it means something else."""
    return _missing_rights(error, purpose) if isinstance(error, asyncpg.InsufficientPrivilegeError) else None


def is_passing(error: BaseException) -> bool:
    """Whether waiting is all there is to do: no connection, a lock, a conflict, a lack of resources."""
    return isinstance(error, (DatabaseUnavailableError, AccessError, *TIMED_OUT, *CONFLICTS)) or is_unavailable(error)


def is_unavailable(error: BaseException) -> bool:
    """Whether the same call may work later. asyncpg's InterfaceError also covers wrong settings, which may not."""
    return isinstance(error, UNAVAILABLE) and not isinstance(error, (ValueError, *TIMED_OUT))


@contextmanager
def translated(purpose: str, *, role_option: str = WORKER_ROLE_OPTION) -> Generator[None]:
    """Raise our errors for what went wrong while doing `purpose` ("start a run of 'mail'").

    Args:
        purpose: what is done.
        role_option: the option of `flowworker db install` that grants it.

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
        raise _missing_rights(error, purpose, role_option) from error
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


def _missing_rights(
    error: asyncpg.InsufficientPrivilegeError, purpose: str, role_option: str = WORKER_ROLE_OPTION
) -> MissingRightsError:
    needed = "what a worker needs" if role_option == WORKER_ROLE_OPTION else "what that takes"
    return MissingRightsError(
        f"the database role may not {purpose}: {describe(error)}; "
        f"grant it {needed} with `flowworker db install {role_option} ROLE`"
    )
