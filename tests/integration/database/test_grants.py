"""The rights of a worker's role: what it may do, what it may not, one by one."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.conftest import OWNER_ROLE, STRANGER_ROLE, WORKER_ROLE, Database, create_database, grant_roles

from flowworker.database.connection import Connection, connect
from flowworker.database.grants import Grantable, Profile, grant, grant_statements
from flowworker.database.local_server import LocalServer
from flowworker.errors import UsageError

SETUP = """
    SELECT pgflow.create_flow('sample');
    SELECT pgflow.add_step('sample', 'only');
    SELECT pgmq.create('mail');
    SELECT pgmq.enable_notify_insert('sample');
    CREATE SCHEMA private;
    CREATE TABLE private.secrets (secret text);
"""

ALLOWED = {
    "start a run": "SELECT pgflow.start_flow('sample', '{}')",
    "send a job": "SELECT pgmq.send('mail', '{}')",
    "read messages": "SELECT pgmq.read('mail', 5, 1)",
    "archive a message": "SELECT pgmq.archive('mail', 1)",
    "write an archived message": "UPDATE pgmq.a_mail SET headers = '{}'",
    "delete a message": "SELECT pgmq.delete('mail', 1)",
    "postpone a message": "SELECT pgmq.set_vt('mail', 1, 5)",
    "claim tasks": "SELECT pgflow.start_tasks('sample', ARRAY[1], gen_random_uuid())",
    "complete a task": "SELECT pgflow.complete_task(gen_random_uuid(), 'only', 0, '1')",
    "fail a task": "SELECT pgflow.fail_task(gen_random_uuid(), 'only', 0, 'broken')",
    "lock a run": "SELECT FROM pgflow.runs FOR UPDATE",
    "register": "INSERT INTO pgflow.workers VALUES (gen_random_uuid(), 'sample', 'test')",
    "report": "INSERT INTO flowworker.workers (worker_id, boot_id, kind, slug, worker_name, version, state, slots) "
    "VALUES (gen_random_uuid(), gen_random_uuid(), 'flow', 'sample', 'w', '1', 'running', 1)",
    "prune reports": "DELETE FROM flowworker.workers",
    "ask for a drain": "INSERT INTO flowworker.drains (target, until, reason) VALUES ('w', now(), 'test')",
    "end a drain": "DELETE FROM flowworker.drains",
    "read a run": "SELECT pgflow.get_run_with_states(gen_random_uuid())",
    "list queues": "SELECT pgmq.list_queues()",
    "read the ledger": "SELECT FROM flowworker.ledger",
    "bring back a throttle row": "INSERT INTO pgmq.notify_insert_throttle (queue_name) VALUES ('mail')",
}

CANCELLING = {
    "cancel a run": "SELECT flowworker.cancel_run(run_id, 'ada', NULL) FROM pgflow.start_flow('sample', '{}')",
    "cancel a job": "SELECT flowworker.cancel_job('mail', (SELECT pgmq.send('mail', '{}')), 'ada', NULL)",
    "read the requests": "SELECT FROM flowworker.requests",
}

DENIED = {
    "change a request": "UPDATE flowworker.requests SET actor = 'someone else'",
    "delete a request": "DELETE FROM flowworker.requests",
    "clear the requests": "TRUNCATE flowworker.requests",
    "create a flow": "SELECT pgflow.create_flow('another')",
    "add a step": "SELECT pgflow.add_step('sample', 'another')",
    "write a flow": "INSERT INTO pgflow.flows (flow_slug) VALUES ('another')",
    "tune a flow": "UPDATE pgflow.flows SET opt_timeout = 1",
    "tune a step": "UPDATE pgflow.steps SET opt_timeout = 1",
    "delete a flow": "DELETE FROM pgflow.flows",
    "delete a dependency": "DELETE FROM pgflow.deps",
    "delete a run": "DELETE FROM pgflow.runs",
    "delete a step state": "DELETE FROM pgflow.step_states",
    "delete a task": "DELETE FROM pgflow.step_tasks",
    "delete a pgflow worker": "DELETE FROM pgflow.workers",
    "truncate the runs": "TRUNCATE pgflow.runs CASCADE",
    "truncate a queue": "TRUNCATE pgmq.q_mail",
    "purge a queue": "SELECT pgmq.purge_queue('mail')",
    "delete an archived message": "DELETE FROM pgmq.a_mail",
    "create a queue": "SELECT pgmq.create('another')",
    "drop a queue": "SELECT pgmq.drop_queue('mail')",
    "rename a queue": "UPDATE pgmq.meta SET queue_name = 'other'",
    "enable notify": "SELECT pgmq.enable_notify_insert('mail')",
    "disable notify": "SELECT pgmq.disable_notify_insert('sample')",
    "delete a throttle row": "DELETE FROM pgmq.notify_insert_throttle",
    "create a table in pgmq": "CREATE TABLE pgmq.mine (id int)",
    "create a table in pgflow": "CREATE TABLE pgflow.mine (id int)",
    "create a table in flowworker": "CREATE TABLE flowworker.mine (id int)",
    "create a table in public": "CREATE TABLE public.mine (id int)",
    "create a schema": "CREATE SCHEMA mine",
    "alter a table": "ALTER TABLE pgflow.runs ADD COLUMN mine int",
    "drop a table": "DROP TABLE pgflow.runs",
    "replace a function": "CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, "
    "private boolean DEFAULT true) RETURNS void LANGUAGE sql AS 'SELECT'",
    "write the ledger": "INSERT INTO flowworker.ledger VALUES ('pgflow', 'x', 'y')",
    "clear the ledger": "DELETE FROM flowworker.ledger",
    "read another schema": "SELECT FROM private.secrets",
    "create a role": "CREATE ROLE mine",
    "become the owner": f"SET ROLE {OWNER_ROLE}",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "read a file": "SELECT pg_read_file('PG_VERSION')",
}


@pytest.fixture(scope="module")
def prepared(postgres: LocalServer, template: str) -> Database:
    """A database with a flow, a queue and a foreign schema; `db install --role` ran once more after they were made."""

    async def prepare() -> Database:
        database = await create_database(postgres, "test_grants", template)
        owner = await database.connect()
        await owner.execute(SETUP)
        await grant_roles(owner)
        await owner.close()
        return database

    return asyncio.run(prepare())


@pytest.fixture
async def shared(prepared: Database) -> AsyncIterator[Connection]:
    """A worker's connection to the prepared database; what the test does is rolled back."""
    connection = await prepared.connect_as_worker()
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest.mark.parametrize("action", ALLOWED)
async def test_a_worker_may(shared: Connection, action: str) -> None:
    await shared.execute(ALLOWED[action])


@pytest.mark.parametrize("action", DENIED)
async def test_a_worker_may_not(shared: Connection, action: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shared.execute(DENIED[action])


async def test_a_queue_created_later_is_covered(owner: Connection, worker: Connection) -> None:
    await owner.execute("SELECT pgmq.create('later')")
    await worker.execute("SELECT pgmq.send('later', '{}')")
    await worker.execute("SELECT pgmq.archive('later', 1)")


async def test_a_role_that_does_not_exist_is_refused_with_the_statement_that_makes_it(owner: Connection) -> None:
    with pytest.raises(UsageError, match='CREATE ROLE "no body" LOGIN'):
        await grant(owner, "no body")


async def test_the_statements_are_returned_as_they_were_run(owner: Connection) -> None:
    await owner.execute("SELECT pgmq.create('mail')")
    statements = await grant(owner, WORKER_ROLE)
    for statement in statements:
        await owner.execute(statement)
    assert f'GRANT SELECT, INSERT, UPDATE, DELETE ON "pgmq"."q_mail" TO "{WORKER_ROLE}"' in statements
    assert f'GRANT SELECT, INSERT, UPDATE ON "pgmq"."a_mail" TO "{WORKER_ROLE}"' in statements


def test_names_are_quoted() -> None:
    found = Grantable(role='o"dd', owner="The Owner", schemas=["pgmq"], tables=["pgmq.q_Mixed"])
    assert grant_statements(found) == [
        'GRANT USAGE ON SCHEMA "pgmq" TO "o""dd"',
        'GRANT SELECT, INSERT, UPDATE, DELETE ON "pgmq"."q_Mixed" TO "o""dd"',
        'ALTER DEFAULT PRIVILEGES FOR ROLE "The Owner" IN SCHEMA "pgmq" '
        'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "o""dd"',
    ]


@pytest.mark.parametrize("action", CANCELLING.keys() - {"read the requests"})
async def test_a_worker_may_not_cancel(shared: Connection, action: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await shared.execute(CANCELLING[action])


ADMINISTRATOR_MAY = (
    "start a run", "send a job", "lock a run", "read a run", "list queues", "archive a message",
    "write an archived message", "ask for a drain", "end a drain", "bring back a throttle row",
)  # fmt: skip
ADMINISTRATOR_MAY_NOT = ("register", "report", "prune reports", *DENIED)


@pytest.fixture
async def acting(prepared: Database) -> AsyncIterator[Connection]:
    """An administrator's connection to the prepared database; what the test does is rolled back."""
    connection = await connect(prepared.admin_dsn, application_name="test")
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest.mark.parametrize("action", [*ADMINISTRATOR_MAY, *CANCELLING])
async def test_an_administrator_may(acting: Connection, action: str) -> None:
    await acting.execute({**ALLOWED, **CANCELLING}[action])


@pytest.mark.parametrize("action", ADMINISTRATOR_MAY_NOT)
async def test_an_administrator_may_not(acting: Connection, action: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await acting.execute({**ALLOWED, **DENIED}[action])


CLIENT_MAY = (
    "start a run", "send a job", "lock a run", "read a run", "list queues", "write an archived message",
    "bring back a throttle row",
)  # fmt: skip
CLIENT_MAY_NOT = (
    "read messages", "archive a message", "delete a message", "postpone a message", "register", "report",
    "prune reports", "ask for a drain", "end a drain", *DENIED,
)  # fmt: skip


@pytest.fixture(scope="module")
def client_database(postgres: LocalServer, template: str) -> Database:
    """A database in which the stranger's role was made a client's, with a flow and a queue of before and after."""

    async def prepare() -> Database:
        database = await create_database(postgres, "test_client_grants", template)
        owner = await database.connect()
        await owner.execute(SETUP)
        await grant(owner, STRANGER_ROLE, Profile.CLIENT)
        await owner.execute("SELECT pgmq.create('later')")
        await owner.close()
        return database

    return asyncio.run(prepare())


@pytest.fixture
async def client_connection(client_database: Database) -> AsyncIterator[Connection]:
    connection = await client_database.connect_as_stranger()
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest.mark.parametrize("action", CLIENT_MAY)
async def test_a_client_may(client_connection: Connection, action: str) -> None:
    await client_connection.execute(ALLOWED[action])


@pytest.mark.parametrize("action", CLIENT_MAY_NOT)
async def test_a_client_may_not(client_connection: Connection, action: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await client_connection.execute({**ALLOWED, **DENIED}[action])


async def test_a_client_may_send_to_a_queue_created_later(client_connection: Connection) -> None:
    await client_connection.execute("SELECT pgmq.send('later', '{}')")


async def test_what_public_may_not_do_is_granted(owner: Connection, database: Database) -> None:
    await owner.execute(f"""
        REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC;
        REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA pgmq, pgflow, realtime FROM PUBLIC
    """)
    statements = await grant(owner, WORKER_ROLE)
    assert f'GRANT CONNECT ON DATABASE "{database.name}" TO "{WORKER_ROLE}"' in statements
    assert f'GRANT EXECUTE ON FUNCTION pgflow.start_tasks(text, bigint[], uuid) TO "{WORKER_ROLE}"' in statements
    executing = [statement for statement in statements if "EXECUTE" in statement]
    assert not any("start_flow_with_states" in statement for statement in executing)  # it runs with the owner's rights
    assert not [statement for statement in await grant(owner, WORKER_ROLE) if "EXECUTE" in statement]
    worker = await database.connect_as_worker()
    await worker.close()
