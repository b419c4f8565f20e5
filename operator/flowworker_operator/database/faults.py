"""From what went wrong at a database to words a user can act on, without secrets. Pure."""

import asyncio
import socket
import ssl

import asyncpg

from flowworker.database.connection import describe
from flowworker.errors import AccessError, MissingRightsError, UsageError
from flowworker_operator.api.conditions import Reason
from flowworker_operator.database.hosts import INWARD, InwardError
from flowworker_operator.domain.snapshot import Fault
from flowworker_operator.domain.words import shown

LONGEST = 512

VAGUE = "check host and port in the Secret, DNS, firewalls, and that PostgreSQL runs there and is not overloaded"
STANDBY = "this server takes no writes: it is a standby, or read-only; a failover may be going on"
NO_COMMON_GROUND = frozenset({"SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_PROTOCOL_VERSION"})
"""What OpenSSL calls it when a server ends a handshake for want of a version, a cipher or a group in common."""
CERTIFY = "give one for this user by spec.database.clientCertificateRef"
GRANT = "grant it what a worker needs with `flowworker db install --role ROLE`"


def connection_fault(error: BaseException, place: str) -> Fault:
    """Why a database cannot be used, in general.

    Args:
        error: what connecting or a statement raised; its cause is reported where it has one.
        place: where the database is, without secrets.
    """
    cause = error.__cause__ or error
    match error:
        case UsageError():
            return fault(Reason.BAD_SECRET, str(error))
        case MissingRightsError():
            return fault(Reason.DATABASE_REFUSED, f"{place}: {error}; {GRANT}")
        case AccessError() if isinstance(cause, ssl.SSLError):
            return fault(Reason.DATABASE_REFUSED, f"no trusted TLS connection to {place}: {_certificate(cause)}")
        case AccessError():
            words = _words(cause)
            advice = CERTIFY if "certificate" in words else "check user and password in the Secret"
            return fault(Reason.DATABASE_REFUSED, f"{place} refuses the connection: {words}; {advice}")
        case _:
            return unreachable(cause, place)


def vague(place: str) -> Fault:
    """The same for every reason of the network, for who may not learn which one it is."""
    return fault(Reason.DATABASE_UNREACHABLE, f"no answer from {place}: {VAGUE}")


def is_of_the_network(error: BaseException) -> bool:
    """Whether a failure to connect is one of hosts, ports and firewalls, and not the word of a PostgreSQL."""
    cause = error.__cause__ or error
    if isinstance(error, UsageError | AccessError):
        return False
    return not isinstance(cause, asyncpg.PostgresError) or isinstance(cause, asyncpg.ConnectionDoesNotExistError)


def unreachable(cause: BaseException, place: str) -> Fault:
    """Why the database does not answer now."""
    why = INWARD if isinstance(cause, InwardError) else _why(cause)
    return fault(Reason.DATABASE_UNREACHABLE, f"no answer from {place}: {why}")


def beyond_bounds(reason: str, place: str) -> Fault:
    """What a database sends is more than the operator reads."""
    return fault(Reason.DATABASE_UNREACHABLE, f"the connection to {place} was ended: {reason}")


def statement_fault(error: BaseException, what: str) -> Fault:
    """Why one subject cannot be read although the database answers.

    Args:
        error: what the statement raised.
        what: the subject, for example "flow 'mail'".
    """
    match error:
        case asyncpg.InsufficientPrivilegeError():
            return fault(Reason.DATABASE_REFUSED, f"{what}: the database role lacks a right: {_words(error)}; {GRANT}")
        case asyncpg.LockNotAvailableError():
            advice = "another session holds a lock on its tables; look for long transactions or maintenance"
            return fault(Reason.DATABASE_UNREACHABLE, f"{what} cannot be read: {advice}")
        case asyncpg.QueryCanceledError():
            return fault(Reason.DATABASE_UNREACHABLE, f"{what} cannot be read in time: {_why(error)}")
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError() | asyncpg.UndefinedFunctionError():
            advice = "run `flowworker db install` as the owner of the database"
            return fault(Reason.SCHEMA_MISSING, f"{what} cannot be read: {_words(error)}; {advice}")
        case _:
            return fault(Reason.DATABASE_UNREACHABLE, f"{what} cannot be read: {_words(error)}")


def unreadable_queue(what: str) -> Fault:
    """The role may not read the queue's table."""
    return fault(Reason.DATABASE_REFUSED, f"{what}: the database role may not read its queue; {GRANT}")


def queue_per_step(what: str) -> Fault:
    """The flow has a queue for each of its steps."""
    advice = "compile it under a new slug with one queue for all steps, as `flowworker flows compile` does"
    return fault(
        Reason.SCHEMA_UNSUPPORTED, f"{what} has a queue for each step, which FlowWorker does not serve: {advice}"
    )


def fault(reason: Reason, message: str) -> Fault:
    """A fault whose message holds no secret and is no longer than a status may show."""
    return Fault(reason=reason, message=shown(message, limit=LONGEST))


def _why(cause: BaseException) -> str:
    match cause:
        case socket.gaierror():
            return "its host name is unknown; check the host in the Secret, and DNS"
        case ConnectionRefusedError():
            return "the connection is refused; nothing listens there, check host and port"
        case asyncpg.QueryCanceledError():
            return "the database is too slow, a statement that takes milliseconds took seconds"
        case asyncio.TimeoutError():
            return "it is silent; check host and port, firewalls, and that PostgreSQL is not overloaded"
        case asyncpg.TooManyConnectionsError():
            return f"it has too many connections: {_words(cause)}"
        case asyncpg.TargetServerAttributeNotMatched() | asyncpg.ReadOnlySQLTransactionError():
            return STANDBY
        case asyncpg.CannotConnectNowError() | asyncpg.AdminShutdownError() | asyncpg.CrashShutdownError():
            return f"it is starting, stopping or failing over: {_words(cause)}"
        case asyncpg.ProtocolViolationError() if "startup parameter" in str(cause):
            return f"a pooler stands before it ({_words(cause)}); name one past it in spec.database.directSecretRef"
        case asyncpg.InvalidCatalogNameError():
            return f"{_words(cause)}; create it, or correct the name in the Secret"
        case _:
            return _words(cause)


def has_no_common_ground(error: BaseException | None) -> bool:
    """Whether a server takes nothing that was offered for the handshake."""
    return isinstance(error, ssl.SSLError) and getattr(error, "reason", "") in NO_COMMON_GROUND


def _certificate(error: ssl.SSLError) -> str:
    if has_no_common_ground(error):
        return (
            "it takes no cipher of the operator, which are those of TLS 1.3, and of TLS 1.2 those with ECDHE, each "
            "with the groups P-256, X25519, P-384 and P-521"
        )
    return str(getattr(error, "verify_message", "") or getattr(error, "reason", "") or error)


def _words(error: BaseException) -> str:
    return describe(error)
