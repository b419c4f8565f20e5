"""What an error of asyncpg means to a source: come back later, try again now, or this value cannot be stored."""

import asyncpg

from flowworker.database.connection import CONNECTION_LOST, describe
from flowworker.errors import AccessError, DatabaseUnavailableError, MissingRightsError

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


def refusal_of(error: BaseException, purpose: str) -> MissingRightsError | None:
    """The lasting refusal an error means for `purpose` ("claim from 'mail'"); None where it means something else."""
    if not isinstance(error, asyncpg.InsufficientPrivilegeError):
        return None
    return MissingRightsError(
        f"the database role may not {purpose}: {describe(error)}; "
        "grant it what a worker needs with `flowworker db install --role ROLE`"
    )


def is_passing(error: BaseException) -> bool:
    """Whether waiting is all there is to do: no connection, a lock, a conflict, a lack of resources."""
    return isinstance(error, (DatabaseUnavailableError, AccessError, *TIMED_OUT, *CONFLICTS)) or is_unavailable(error)


def is_unavailable(error: BaseException) -> bool:
    """Whether the same call may work later. asyncpg's InterfaceError also covers wrong settings, which may not."""
    return isinstance(error, UNAVAILABLE) and not isinstance(error, (ValueError, *TIMED_OUT))
