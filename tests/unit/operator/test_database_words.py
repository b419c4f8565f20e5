"""What a reading, a fault and a connection string are made of, without a database."""

import socket
import ssl
from dataclasses import replace
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.unit.operator.test_database_liveness import EPOCH, row

from flowworker.database.probe import Sample
from flowworker.errors import AuthenticationError, DatabaseUnavailableError, MissingRightsError, UsageError
from flowworker_operator.api.conditions import Reason
from flowworker_operator.database import Key, Reading, Subject
from flowworker_operator.database.endpoint import parse_endpoint
from flowworker_operator.database.faults import LONGEST, connection_fault, statement_fault
from flowworker_operator.database.interpret import reading_of, says_the_same
from flowworker_operator.domain.snapshot import Demand, Fault, Report, WorkerState

PLACE = "db:5432/app"
MAIL = Subject(key=Key(namespace="shop", name="mail"), kind="queue", slug="mail", cap=10)
NOTHING = Sample(
    startable=0,
    depth=0,
    oldest_startable_at=None,
    delayed=0,
    due_in=None,
    in_flight=0,
    in_flight_cut=False,
    stalled=0,
    longest_timeout=None,
    queue_readable=True,
)


def read(sample: Sample, *lost: UUID) -> Reading:
    return reading_of(MAIL, sample, lost, tick=1.0, database="1/app")


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (UsageError("malformed"), Reason.BAD_SECRET, "malformed"),
        (AuthenticationError("x"), Reason.DATABASE_REFUSED, "check user and password"),
        (
            caused(AuthenticationError("x"), ssl.SSLError(1, "self-signed certificate")),
            Reason.DATABASE_REFUSED,
            "no trusted TLS connection to db:5432/app",
        ),
        (MissingRightsError("the role may not connect"), Reason.DATABASE_REFUSED, "db install --role"),
        (socket.gaierror(-2, "Name or service not known"), Reason.DATABASE_UNREACHABLE, "host name is unknown"),
        (ConnectionRefusedError(), Reason.DATABASE_UNREACHABLE, "the connection is refused"),
        (TimeoutError(), Reason.DATABASE_UNREACHABLE, "silent"),
        (asyncpg.TooManyConnectionsError("sorry"), Reason.DATABASE_UNREACHABLE, "too many connections"),
        (asyncpg.TargetServerAttributeNotMatched("none"), Reason.DATABASE_UNREACHABLE, "standby"),
        (asyncpg.CannotConnectNowError("the system is starting up"), Reason.DATABASE_UNREACHABLE, "failing over"),
        (asyncpg.AdminShutdownError("terminating"), Reason.DATABASE_UNREACHABLE, "stopping"),
        (asyncpg.InvalidCatalogNameError("no app"), Reason.DATABASE_UNREACHABLE, "create it"),
        (asyncpg.QueryCanceledError("timeout"), Reason.DATABASE_UNREACHABLE, "too slow"),
        (
            asyncpg.ProtocolViolationError("unsupported startup parameter: jit"),
            Reason.DATABASE_UNREACHABLE,
            "spec.database.directSecretRef",
        ),
        (RuntimeError("surprise"), Reason.DATABASE_UNREACHABLE, "RuntimeError surprise"),
    ],
)
def test_a_fault_of_a_connection_says_what_to_do(error: Exception, reason: Reason, words: str) -> None:
    for raised in (error, caused(DatabaseUnavailableError("x"), error)):
        fault = connection_fault(raised, PLACE)
        if raised is error or reason is Reason.DATABASE_UNREACHABLE:
            assert fault.reason is reason
            assert words in fault.message


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (asyncpg.InsufficientPrivilegeError("permission denied"), Reason.DATABASE_REFUSED, "permission denied"),
        (asyncpg.LockNotAvailableError("lock timeout"), Reason.DATABASE_UNREACHABLE, "holds a lock"),
        (asyncpg.QueryCanceledError("timeout"), Reason.DATABASE_UNREACHABLE, "in time"),
        (asyncpg.UndefinedTableError("no runs"), Reason.SCHEMA_MISSING, "db install"),
        (UsageError("bad name"), Reason.DATABASE_UNREACHABLE, "bad name"),
    ],
)
def test_a_fault_of_a_subject_names_it(error: Exception, reason: Reason, words: str) -> None:
    fault = statement_fault(error, "flow 'mail'")
    assert fault.reason is reason
    assert "flow 'mail'" in fault.message
    assert words in fault.message


def test_faults_hold_no_secret_and_are_short() -> None:
    fault = connection_fault(OSError("cannot reach postgresql://u:hunter2@db/app " + "x" * 9000), PLACE)
    assert "hunter2" not in fault.message
    assert len(fault.message) == LONGEST


def said(sqlstate: str, message: str, detail: str) -> asyncpg.PostgresError:
    """An error as a server sends it."""
    return asyncpg.PostgresError.new({"C": sqlstate, "M": message, "D": detail})  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "error",
    [
        said(
            "23505", "doppelter Schlüsselwert verletzt Unique-Constraint »mail«", "Schlüssel »(a)=(canary)« existiert"
        ),
        said("23514", "neue Zeile verletzt Check-Constraint »c«", "Fehlgeschlagene Zeile enthält (1, canary)."),
        said("22P02", "ungültige Eingabesyntax für Typ uuid: »canary«", ""),
        said("22P02", '型integerの入力構文が不正です: "canary"', ""),
        said("P0001", "nein", "la fila que falla contiene (canary)"),
    ],
)
def test_values_of_rows_are_not_shown_in_whatever_language_a_server_speaks(error: asyncpg.PostgresError) -> None:
    for fault in (connection_fault(error, PLACE), statement_fault(error, "flow 'mail'")):
        assert "canary" not in fault.message
        assert str(error.args[0]).split()[0] in fault.message


def test_what_a_server_adds_about_itself_is_shown() -> None:
    error = said(
        "57P03", "das Datenbanksystem startet", "Konsistenter Wiederherstellungszustand wurde noch nicht erreicht."
    )
    assert "Konsistenter" in connection_fault(error, PLACE).message


SAME = [
    "postgresql://u:p@db/app",
    "postgres://u:p@db:5432/app",
    "postgresql://u@db/app?password=p",
    "postgresql:///app?host=db&user=u&password=p",
    "postgresql://u:%70@d%62/app",
    "postgresql://u:p@db/app?sslmode=prefer",
]
OTHER = [
    "postgresql://v:p@db/app",
    "postgresql://u:q@db/app",
    "postgresql://u:p@db/other",
    "postgresql://u:p@db:5433/app",
    "postgresql://u:p@db,standby/app",
    "postgresql://u:p@standby,db/app",
    "postgresql://u:p@db/app?sslmode=require",
    "postgresql://u:p@db/app?sslmode=disable",
    "postgresql://u:p@db/app?target_session_attrs=read-write",
    "postgresql://u:p@db/app?search_path=mine",
]


def test_connection_strings_that_mean_the_same_are_the_same_endpoint() -> None:
    assert len({parse_endpoint(dsn) for dsn in SAME}) == 1


def test_connection_strings_that_differ_in_anything_are_different_endpoints() -> None:
    assert len({parse_endpoint(dsn) for dsn in (*SAME, *OTHER)}) == 1 + len(OTHER)


def test_an_endpoint_shows_no_password() -> None:
    endpoint = parse_endpoint("postgresql://u:hunter2@db,standby/app")
    assert "hunter2" not in f"{endpoint} {endpoint!r} {endpoint.place}"
    assert endpoint.place == "db:5432,standby:5432/app"


def test_the_newest_incarnation_speaks_for_a_pod() -> None:
    old, new = replace(row(), state="lost"), replace(row(), started_at=EPOCH.replace(year=2027), in_flight=3)
    nowhere = replace(row(), pod_uid=None)
    reading = read(replace(NOTHING, workers=[new, old, nowhere]))
    assert reading.reports == {"pod": Report(state=WorkerState.RUNNING, kind="flow", slug="mail", in_flight=3)}


def test_a_worker_that_died_without_a_word_is_lost_and_runs_nothing() -> None:
    one = replace(row(), kind="queue", in_flight=4, on_last_attempt=True)
    sample = replace(NOTHING, workers=[one])
    alive, dead = read(sample), read(sample, one.worker_id)
    assert (alive.reports["pod"].state, alive.reports["pod"].on_last_attempt) == (WorkerState.RUNNING, True)
    assert (dead.reports["pod"].state, dead.reports["pod"].on_last_attempt) == (WorkerState.LOST, False)
    assert (alive.demand, dead.demand) == (Demand(in_flight=4), Demand())


def test_an_error_in_a_report_holds_no_secret() -> None:
    one = replace(row(), last_error="cannot reach postgresql://u:hunter2@db/app")
    assert read(replace(NOTHING, workers=[one])).reports["pod"].last_error == "cannot reach postgresql://u:***@db/app"


def test_what_passes_by_itself_changes_no_status() -> None:
    sample = replace(NOTHING, delayed=1, due_in=30.0, drains={"pod": 5.0})
    later = replace(sample, due_in=29.0, drains={"pod": 6.0})
    assert says_the_same(read(sample), replace(read(later), tick=2.0))


@pytest.mark.parametrize(
    "changed",
    [
        replace(NOTHING, startable=1),
        replace(NOTHING, due_in=3.0),
        replace(NOTHING, oldest_startable_at=EPOCH),
        replace(NOTHING, longest_timeout=5),
        replace(NOTHING, drains={"pod": 0.0}),
        replace(NOTHING, workers=[row(uuid4(), state="draining")]),
    ],
)
def test_everything_else_changes_the_status(changed: Sample) -> None:
    assert not says_the_same(read(NOTHING), read(changed))
    assert not says_the_same(None, read(changed))


def test_a_fault_of_the_schema_is_published() -> None:
    fault = Fault(reason=Reason.SCHEMA_MISSING, message="no pgmq")
    assert not says_the_same(read(NOTHING), replace(read(NOTHING), schema_fault=fault))
