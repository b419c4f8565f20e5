"""Whatever is wrong with a database is reported in words a user can act on, soon, and is over when it is over."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from testkit.support.proxy import Proxy, Weather
from testkit.support.waiting import until
from tests.acceptance.pooler import PROGRAM, transaction_pooler
from tests.conftest import (
    STRANGER_ROLE,
    WORKER_ROLE,
    Database,
    create_database,
    install_everything,
)
from tests.integration.operator.observer import Observer, report, send, subject

from flowworker.database.connection import Connection, connect
from flowworker.database.install import install
from flowworker.database.local_server import LocalServer, free_port
from flowworker_operator.api.conditions import Reason
from flowworker_operator.domain.snapshot import Fault

FLOW, MAIL = subject("one_step"), subject("mail", "queue")
SOON = 15.0
"""Seconds within which a fault is reported."""


@pytest.fixture
async def superuser(database: Database) -> AsyncIterator[Connection]:
    connection = await connect(database.superuser_dsn, application_name="test")
    yield connection
    await connection.close()


@asynccontextmanager
async def a_role(superuser: Connection, name: str, options: str = "") -> AsyncGenerator[str]:
    await superuser.execute(f"CREATE ROLE {name} LOGIN {options} IN ROLE {WORKER_ROLE}")
    try:
        yield name
    finally:
        await superuser.execute(f"DROP ROLE {name}")


def as_role(database: Database, role: str, password: str = "") -> str:
    credentials = f"{role}:{password}" if password else role
    return database.worker_dsn.replace(f"{WORKER_ROLE}@", f"{credentials}@")


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "   ",
        "host=db dbname=app user=u password=hunter2",
        "hunter2",
        "mysql://u:hunter2@db/app",
        "postgresql://u:hunter2@db:port/app",
        "postgresql://u:p@hunter2@db/app",
        "postgresql://u:p@ss:hunter2@db/app",
        "postgresql://u:hunter2@[::1/app",
        "postgresql://u:hunter2@db/app?sslmode=hunter2",
        "postgresql://u:hunter2@db/app?target_session_attrs=anything",
        "postgresql://u:hunter2@db/app?sslmode=verify-full&sslrootcert=/hunter2",
        "postgresql://u:hunter2@db/app?sslmode",
        "postgresql://u:hunter2@a:1,b:2,c:x/app",
    ],
)
async def test_a_malformed_connection_string_is_a_bad_secret_that_is_not_quoted(observer: Observer, dsn: str) -> None:
    observer.watch(dsn, FLOW)
    fault = observer.databases.fault(FLOW.key)
    assert fault is not None
    assert fault.reason is Reason.BAD_SECRET
    assert "connection string" in fault.message
    assert "hunter2" not in fault.message
    assert observer.changed == [FLOW.key]


async def test_a_secret_that_is_mended_is_read(observer: Observer, database: Database) -> None:
    observer.watch("nonsense", FLOW)
    observer.watch(database.worker_dsn, FLOW)
    await observer.reads(FLOW)


async def test_a_wrong_password_is_refused_and_not_shown(observer: Observer, own_server: LocalServer) -> None:
    database = await create_database(own_server, "app")
    await install_everything(database)
    superuser = await connect(database.superuser_dsn, application_name="test")
    async with a_role(superuser, "careful", "PASSWORD 'right'"):
        rules = own_server.data / "pg_hba.conf"
        rules.write_text(f"host all careful 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        await superuser.execute("SELECT pg_reload_conf()")
        observer.watch(as_role(database, "careful", "hunter2"), FLOW)
        message = await observer.fails(FLOW, Reason.DATABASE_REFUSED, within=SOON)
        assert "password" in message
        assert "hunter2" not in message
        observer.watch(as_role(database, "careful", "right"), FLOW)
        await observer.reads(FLOW)
        await observer.databases.close()
    await superuser.close()


async def test_an_unknown_role_is_refused(observer: Observer, database: Database) -> None:
    observer.watch(as_role(database, "nobody_knows_me"), FLOW)
    assert "nobody_knows_me" in await observer.fails(FLOW, Reason.DATABASE_REFUSED, within=SOON)


async def test_the_error_of_a_role_without_rights_says_how_to_get_them(observer: Observer, database: Database) -> None:
    observer.watch(as_role(database, STRANGER_ROLE), FLOW)
    message = await observer.fails(FLOW, Reason.DATABASE_REFUSED, within=SOON)
    assert "permission denied" in message
    assert "db install --role" in message


async def test_a_role_that_may_not_connect_is_refused(
    observer: Observer, database: Database, superuser: Connection
) -> None:
    await superuser.execute(f"REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC")
    observer.watch(database.worker_dsn, FLOW)
    assert "may not connect" in await observer.fails(FLOW, Reason.DATABASE_REFUSED, within=SOON)


async def test_a_database_that_does_not_exist_is_named(observer: Observer, database: Database) -> None:
    observer.watch(database.worker_dsn.replace(database.name, "no_such_database"), FLOW)
    message = await observer.fails(FLOW, Reason.DATABASE_UNREACHABLE, within=SOON)
    assert "no_such_database" in message
    assert "create it" in message


async def test_a_port_where_nothing_listens(observer: Observer) -> None:
    port = free_port()
    observer.watch(f"postgresql://u:hunter2@127.0.0.1:{port}/app", FLOW)
    message = await observer.fails(FLOW, Reason.DATABASE_UNREACHABLE, within=SOON)
    assert f"127.0.0.1:{port}/app: the connection is refused" in message
    assert "hunter2" not in message


async def test_a_silent_server_and_its_return(observer: Observer, database: Database) -> None:
    async with Proxy(database.server.port) as proxy:
        observer.watch(proxy.dsn(database.worker_dsn), FLOW)
        await observer.reads(FLOW)
        proxy.weather = Weather.SWALLOWED
        assert "silent" in await observer.fails(FLOW, Reason.DATABASE_UNREACHABLE, within=SOON)
        assert observer.databases.reading(FLOW.key) is not None, "the last good reading stays"
        proxy.weather = Weather.CLEAR
        await observer.reads(FLOW)
        await observer.databases.close()


async def test_too_many_connections(observer: Observer, database: Database, superuser: Connection) -> None:
    async with a_role(superuser, f"crowded_{database.name}", "CONNECTION LIMIT 0") as role:
        observer.watch(as_role(database, role), FLOW)
        assert "too many connections" in await observer.fails(FLOW, Reason.DATABASE_UNREACHABLE, within=SOON)
        await superuser.execute(f"ALTER ROLE {role} CONNECTION LIMIT 5")
        await observer.reads(FLOW)
        await observer.databases.close()


async def test_a_server_that_takes_no_writes(observer: Observer, database: Database, superuser: Connection) -> None:
    observer.watch(database.worker_dsn, FLOW)
    await observer.reads(FLOW)
    await superuser.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    await superuser.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'flowworker-operator' AND datname = current_database()"
    )
    message = await observer.fails(FLOW, Reason.DATABASE_UNREACHABLE, within=SOON)
    await until(lambda: "standby" in (fault.message if (fault := observer.databases.fault(FLOW.key)) else ""), message)
    await superuser.execute("SET default_transaction_read_only = off")
    await superuser.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
    await observer.reads(FLOW)


async def test_a_server_that_stops_and_starts_again(observer: Observer, own_server: LocalServer) -> None:
    database = await create_database(own_server, "app")
    await install_everything(database)
    observer.watch(database.worker_dsn, FLOW)
    await observer.reads(FLOW)
    own_server.stop()
    await observer.fails(FLOW, Reason.DATABASE_UNREACHABLE, within=SOON)
    own_server.start()
    await observer.reads(FLOW)
    await observer.databases.close()


async def test_a_statement_that_waits_too_long_is_called_slow(
    observer: Observer, database: Database, owner: Connection
) -> None:
    observer.watch(database.worker_dsn, FLOW)
    await observer.reads(FLOW)
    async with owner.transaction():
        await owner.execute("LOCK TABLE pgflow.runs")
        assert "lock" in await observer.fails(FLOW, Reason.DATABASE_UNREACHABLE, within=SOON)
    await observer.reads(FLOW)


async def test_a_database_without_our_schema_names_the_command_that_installs_it(
    observer: Observer, empty_database: Database
) -> None:
    observer.watch(empty_database.superuser_dsn, FLOW, MAIL)
    for one in (FLOW, MAIL):
        reading = await observer.reads(one)
        assert reading.schema_fault is not None
        assert reading.schema_fault.reason is Reason.SCHEMA_MISSING
        assert "flowworker db install" in reading.schema_fault.message
        assert reading.demand is None, "unknown is never zero"
    owner = await empty_database.connect()
    await install(owner)
    await owner.close()
    await until(lambda: observer.demand(FLOW), "the installation is noticed")


async def test_a_schema_older_than_the_operator_is_missing_something(
    observer: Observer, database: Database, owner: Connection
) -> None:
    await owner.execute("ALTER TABLE flowworker.drains DROP COLUMN created_by")
    observer.watch(database.worker_dsn, FLOW)
    reading = await observer.reads(FLOW)
    assert reading.schema_fault is not None
    assert "drains.created_by" in reading.schema_fault.message
    assert "flowworker db install" in reading.schema_fault.message


BREAK: dict[str, tuple[str, str]] = {
    "a core that is too new": (
        "DROP FUNCTION pgflow.start_tasks(text, bigint[], uuid); CREATE FUNCTION pgflow.start_tasks("
        "a text, b bigint[], c uuid, d text, e text, f text) RETURNS void LANGUAGE sql AS 'SELECT'",
        "takes 6 arguments",
    ),
    "a core that is too old": (
        "ALTER TYPE pgflow.step_task_record DROP ATTRIBUTE task_index CASCADE",
        "older than 0.8",
    ),
    "a pgmq that is too old": ("ALTER TYPE pgmq.message_record DROP ATTRIBUTE headers CASCADE", "pgmq older than 1.5"),
}


@pytest.mark.parametrize("broken", BREAK)
async def test_an_unsupported_schema_is_reported_with_what_was_found(
    observer: Observer, database: Database, owner: Connection, broken: str
) -> None:
    statement, found = BREAK[broken]
    await owner.execute(statement)
    observer.watch(database.worker_dsn, FLOW)
    reading = await observer.reads(FLOW)
    assert reading.schema_fault is not None
    assert reading.schema_fault.reason is Reason.SCHEMA_UNSUPPORTED
    assert found in reading.schema_fault.message


@pytest.mark.parametrize("catalogue", ["0.17"], indirect=True)
async def test_a_flow_with_a_queue_for_each_step_is_named_and_counts_for_nothing(
    observer: Observer, catalogue: Database
) -> None:
    owner = await catalogue.connect()
    await owner.execute("SELECT pgflow.create_flow('one_step'); SELECT pgflow.add_step('one_step', 'only')")
    observer.watch(catalogue.worker_dsn, FLOW)
    assert (await observer.reads(FLOW)).schema_fault is None
    await owner.execute("UPDATE pgflow.flows SET queue_mode = 'step'")
    await owner.close()

    def fault() -> Fault | None:
        reading = observer.databases.reading(FLOW.key)
        return None if reading is None or reading.demand is not None else reading.schema_fault

    found = await until(fault, "the queues are noticed")
    assert found.reason is Reason.SCHEMA_UNSUPPORTED
    assert "flow 'one_step' has a queue for each step" in found.message


async def test_queues_do_not_care_for_pgflow(observer: Observer, database: Database, owner: Connection) -> None:
    await owner.execute("SELECT pgmq.create('mail')")
    await send(owner, "mail")
    observer.watch(database.worker_dsn, FLOW, MAIL)
    await observer.reads(FLOW)
    await owner.execute("DROP SCHEMA pgflow CASCADE")

    def noticed() -> bool:
        reading = observer.databases.reading(FLOW.key)
        return reading is not None and reading.schema_fault is not None

    await until(noticed, "the loss of pgflow is noticed")
    await observer.reads(MAIL)
    found = observer.demand(MAIL)
    assert found is not None
    assert found.startable == 1


@pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")
async def test_behind_a_pooler_the_way_past_it_is_named(observer: Observer, database: Database) -> None:
    async with transaction_pooler(database) as dsn:
        observer.watch(dsn, FLOW)
        message = await observer.fails(FLOW, Reason.DATABASE_UNREACHABLE, within=SOON)
        assert "spec.database.directSecretRef" in message
        await observer.databases.close()


async def test_a_dead_database_delays_no_other(observer: Observer, database: Database) -> None:
    async with Proxy(database.server.port) as proxy:
        proxy.weather = Weather.HELD
        observer.watch(proxy.dsn(database.worker_dsn), MAIL)
        observer.watch(database.worker_dsn, FLOW)
        await observer.reads(FLOW)
        assert observer.databases.reading(MAIL.key) is None
        await observer.databases.close()


async def test_a_queue_that_is_dropped_or_comes_back_disturbs_no_other(
    observer: Observer, database: Database, owner: Connection
) -> None:
    for queue in ("mail", "other"):
        await owner.execute("SELECT pgmq.create($1)", queue)
        await send(owner, queue)
    other = subject("other", "queue")
    observer.watch(database.worker_dsn, FLOW, MAIL, other)
    await observer.reads(MAIL)
    await owner.execute("SELECT pgmq.drop_queue('other')")

    def gone() -> bool:
        found = observer.demand(other)
        return found is not None and found.depth == 0

    await until(gone, "the queue is gone")
    assert [observer.databases.fault(one.key) for one in (FLOW, MAIL, other)] == [None] * 3
    assert (await observer.reads(MAIL)).demand is not None
    await owner.execute("SELECT pgmq.create('other')")
    await send(owner, "other")
    await until(lambda: not gone(), "the queue is back")


async def test_a_queue_that_a_transaction_has_locked_is_kept_apart(
    observer: Observer, database: Database, owner: Connection
) -> None:
    for queue in ("mail", "other"):
        await owner.execute("SELECT pgmq.create($1)", queue)
    other = subject("other", "queue")
    observer.watch(database.worker_dsn, FLOW, MAIL, other)
    await observer.reads(other)
    async with owner.transaction():
        await owner.execute("LOCK TABLE pgmq.q_other")
        assert "lock" in await observer.fails(other, Reason.DATABASE_UNREACHABLE, within=SOON)
        for _ in range(2):
            await observer.reads(FLOW)
            await observer.reads(MAIL)
        assert observer.databases.fault(other.key) is not None
    await observer.reads(other)


async def test_a_queue_that_the_role_may_not_read_is_refused_alone(
    observer: Observer, database: Database, owner: Connection
) -> None:
    for queue in ("mail", "other"):
        await owner.execute("SELECT pgmq.create($1)", queue)
    await owner.execute(f"REVOKE SELECT ON pgmq.q_other FROM {WORKER_ROLE}")
    other = subject("other", "queue")
    observer.watch(database.worker_dsn, MAIL, other)
    assert "may not read its queue" in await observer.fails(other, Reason.DATABASE_REFUSED, within=SOON)
    await observer.reads(MAIL)
    await owner.execute(f"GRANT SELECT ON pgmq.q_other TO {WORKER_ROLE}")
    await observer.reads(other)


async def test_without_rights_on_pgflow_queues_are_read_all_the_same(
    observer: Observer, database: Database, owner: Connection
) -> None:
    await owner.execute("SELECT pgmq.create('mail')")
    await owner.execute(f"REVOKE SELECT ON pgflow.runs FROM {WORKER_ROLE}")
    observer.watch(database.worker_dsn, FLOW, MAIL)
    assert "permission denied" in await observer.fails(FLOW, Reason.DATABASE_REFUSED, within=SOON)
    await observer.reads(MAIL)
    await owner.execute(f"GRANT SELECT ON pgflow.runs TO {WORKER_ROLE}")
    await observer.reads(FLOW)


async def test_an_upgrade_of_pgflow_under_way_is_noticed(
    observer: Observer, database: Database, owner: Connection
) -> None:
    await owner.execute("SELECT pgflow.create_flow('one_step')")
    await owner.execute("SELECT pgflow.add_step('one_step', 'only')")
    await owner.execute("SELECT pgflow.start_flow('one_step', '{}')")
    worker_id = await report(owner)
    await owner.execute(
        "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES ($1, 'q', 'f')", worker_id
    )
    await owner.execute("SELECT pgflow.start_tasks('one_step', ARRAY[1], $1)", worker_id)
    observer.watch(database.worker_dsn, FLOW)
    await observer.reads(FLOW)
    await owner.execute(
        "ALTER TABLE pgflow.step_tasks ADD COLUMN requeued_count integer NOT NULL DEFAULT 3, "
        "ADD COLUMN permanently_stalled_at timestamptz DEFAULT now()"
    )

    def stalled() -> bool:
        found = observer.demand(FLOW)
        return found is not None and found.stalled == 1

    await until(stalled, "the new column is heeded")
