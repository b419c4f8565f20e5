"""What `install` adds, keeps and refuses."""

import asyncio
from collections.abc import AsyncIterator
from importlib.resources import files

import pytest
from tests.conftest import OWNER_ROLE, Database

from flowworker.database.capabilities import detect
from flowworker.database.connection import Connection, connect
from flowworker.database.install import Action, InstallReport, install, next_file, read_inventory
from flowworker.database.packaged import Component, PackagedFile, packaged_files
from flowworker.errors import DatabaseUnavailableError, MissingRightsError, UnsupportedSchemaError

OWN, PGMQ, REALTIME, PGFLOW = Component


@pytest.fixture
async def empty(empty_database: Database) -> AsyncIterator[Connection]:
    """The owner's connection to an empty database."""
    connection = await empty_database.connect()
    yield connection
    await connection.close()


def actions(report: InstallReport) -> dict[Component, Action]:
    return {component: report.action(component) for component in Component}


async def ledger(connection: Connection) -> list[tuple[str, str]]:
    rows = await connection.fetch("SELECT component, name FROM flowworker.ledger ORDER BY component, name")
    return [(row["component"], row["name"]) for row in rows]


async def schemas(connection: Connection) -> set[str]:
    rows = await connection.fetch(
        "SELECT nspname::text FROM pg_namespace WHERE nspname IN ('flowworker', 'pgflow', 'pgmq', 'realtime')"
    )
    return {row["nspname"] for row in rows}


async def apply_upstream(connection: Connection, *components: Component, count: int | None = None) -> None:
    """Install as another tool would, without our ledger."""
    for file in [file for file in packaged_files() if file.component in components][:count]:
        await connection.execute(file.sql)


async def test_an_empty_database_gets_everything_and_the_ledger_names_every_file(empty: Connection) -> None:
    report = await install(empty)
    assert actions(report) == dict.fromkeys(Component, Action.INSTALLED)
    assert await ledger(empty) == sorted((file.component.value, file.name) for file in packaged_files())
    found = await detect(empty)
    assert found.can_compile
    assert found.own_schema
    assert found.core == "0.8 or 0.9"


async def test_a_second_call_changes_nothing(empty: Connection) -> None:
    await install(empty)
    before = await empty.fetch("SELECT * FROM flowworker.ledger ORDER BY component, name")
    assert actions(await install(empty)) == dict.fromkeys(Component, Action.KEPT)
    assert await empty.fetch("SELECT * FROM flowworker.ledger ORDER BY component, name") == before


async def test_installers_at_the_same_moment_share_the_work(empty_database: Database) -> None:
    connections = [await empty_database.connect() for _ in range(4)]
    reports = await asyncio.gather(*(install(connection) for connection in connections))
    assert all(Action.INSTALLED in [report.action(component) for report in reports] for component in Component)
    assert len(await ledger(connections[0])) == len(packaged_files())
    for connection in connections:
        await connection.close()


async def test_an_installer_killed_half_way_is_resumed(empty_database: Database) -> None:
    victim = await empty_database.connect()
    await kill_creator_of(empty_database, "pgflow.start_tasks")
    with pytest.raises(DatabaseUnavailableError, match="Run it again"):
        await install(victim)
    await victim.close()
    await disarm(empty_database)
    heir = await empty_database.connect()
    half = len(await ledger(heir))
    assert 3 < half < len(packaged_files())
    assert (await detect(heir)).start_tasks_arity == 0
    assert (await install(heir)).action(PGFLOW) is Action.INSTALLED
    assert len(await ledger(heir)) == len(packaged_files())
    assert (await detect(heir)).start_tasks_arity == 3
    await heir.close()


async def kill_creator_of(database: Database, function: str) -> None:
    superuser = await connect(database.superuser_dsn, application_name="test")
    await superuser.execute(f"""
        CREATE FUNCTION public.kill() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '{function}(%') THEN
                PERFORM pg_terminate_backend(pg_backend_pid());
            END IF;
        END
        $$;
        CREATE EVENT TRIGGER kill ON ddl_command_end EXECUTE FUNCTION public.kill();
    """)
    await superuser.close()


async def disarm(database: Database) -> None:
    superuser = await connect(database.superuser_dsn, application_name="test")
    await superuser.execute("DROP EVENT TRIGGER kill")
    await superuser.close()


async def test_only_flowworker_adds_only_ours(empty: Connection) -> None:
    report = await install(empty, only=OWN)
    assert actions(report) == {OWN: Action.INSTALLED, **dict.fromkeys((PGMQ, REALTIME, PGFLOW), Action.SKIPPED)}
    assert await schemas(empty) == {"flowworker"}


async def test_a_pgmq_that_was_installed_otherwise_is_kept(empty: Connection) -> None:
    await apply_upstream(empty, PGMQ)
    await empty.execute("SELECT pgmq.create('theirs')")
    report = await install(empty)
    assert (report.action(PGMQ), report.action(PGFLOW)) == (Action.KEPT, Action.INSTALLED)
    assert await empty.fetchval("SELECT count(*) FROM pgmq.list_queues()") == 1


async def test_every_core_that_was_installed_otherwise_is_kept(catalogue: Database) -> None:
    owner = await catalogue.connect()
    await owner.execute("DROP SCHEMA flowworker CASCADE")
    before = await detect(owner)
    report = await install(owner)
    assert actions(report) == {OWN: Action.INSTALLED, **dict.fromkeys((PGMQ, REALTIME, PGFLOW), Action.KEPT)}
    after = await detect(owner)
    assert (after.core, after.start_tasks_arity) == (before.core, before.start_tasks_arity)
    assert all(component == "flowworker" for component, _ in await ledger(owner))
    await owner.close()


async def test_a_real_realtime_is_kept(empty: Connection) -> None:
    await empty.execute("""
        CREATE SCHEMA realtime;
        CREATE TABLE realtime.messages (payload jsonb);
        CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
        RETURNS void LANGUAGE sql AS 'INSERT INTO realtime.messages VALUES (payload)';
    """)
    report = await install(empty)
    assert (report.action(REALTIME), report.action(PGFLOW)) == (Action.KEPT, Action.INSTALLED)
    assert (await detect(empty)).run_events is None


async def test_our_own_schema_is_brought_up_to_date_when_its_file_changed(empty: Connection) -> None:
    await install(empty)
    await empty.execute("UPDATE flowworker.ledger SET checksum = 'older' WHERE component = 'flowworker'")
    assert actions(await install(empty)) == {
        OWN: Action.UPDATED,
        **dict.fromkeys((PGMQ, REALTIME, PGFLOW), Action.KEPT),
    }
    assert actions(await install(empty)) == dict.fromkeys(Component, Action.KEPT)


UNKNOWN_LAYOUTS = {
    "pgflow without its tables": ("CREATE SCHEMA pgflow; CREATE TABLE pgflow.jobs (id int)", "no pgflow core"),
    "another flowworker": ("CREATE SCHEMA flowworker; CREATE TABLE flowworker.workers (id int)", "is not ours"),
    "another pgmq": ("CREATE SCHEMA pgmq; CREATE TABLE pgmq.meta (id int)", "not pgmq as we know it"),
}


@pytest.mark.parametrize("layout", UNKNOWN_LAYOUTS)
async def test_an_unknown_layout_is_refused_and_nothing_is_changed(empty: Connection, layout: str) -> None:
    sql, message = UNKNOWN_LAYOUTS[layout]
    await empty.execute(sql)
    before = await schemas(empty)
    with pytest.raises(UnsupportedSchemaError, match=message):
        await install(empty)
    assert await schemas(empty) == before


async def test_empty_schemas_made_beforehand_are_used(empty: Connection) -> None:
    await empty.execute("CREATE SCHEMA pgflow; CREATE SCHEMA pgmq; CREATE SCHEMA flowworker; CREATE SCHEMA realtime")
    assert actions(await install(empty)) == dict.fromkeys(Component, Action.INSTALLED)


async def test_a_pgmq_without_headers_is_refused(empty: Connection) -> None:
    await apply_upstream(empty, PGMQ)
    await empty.execute("ALTER TYPE pgmq.message_record DROP ATTRIBUTE headers CASCADE")
    with pytest.raises(UnsupportedSchemaError, match=r"pgmq older than 1\.5\.0.*Upgrade it first"):
        await install(empty)


async def test_a_core_older_than_0_8_that_was_installed_otherwise_is_refused(empty: Connection) -> None:
    await apply_upstream(empty, PGMQ)
    await apply_upstream(empty, REALTIME)
    await apply_upstream(empty, PGFLOW, count=9)
    with pytest.raises(UnsupportedSchemaError, match=r"older than 0\.8, or one whose migrations stopped half-way"):
        await install(empty)


async def test_a_core_newer_than_we_know_is_refused(database: Database, owner: Connection) -> None:
    await owner.execute("""
        DROP FUNCTION pgflow.start_tasks;
        CREATE FUNCTION pgflow.start_tasks(a text, b text, c text, d text, e text, f text) RETURNS void
        LANGUAGE sql AS 'SELECT';
    """)
    with pytest.raises(UnsupportedSchemaError, match=r"start_tasks takes 6 arguments.*Upgrade FlowWorker"):
        await install(owner)


async def test_a_pgflow_that_was_dropped_is_not_taken_for_installed(owner: Connection) -> None:
    await owner.execute("DROP SCHEMA pgflow CASCADE")
    with pytest.raises(UnsupportedSchemaError, match=r"run first: DELETE FROM flowworker\.ledger"):
        await install(owner)
    await owner.execute("DELETE FROM flowworker.ledger WHERE component = 'pgflow'")
    assert (await install(owner)).action(PGFLOW) is Action.INSTALLED


async def test_only_flowworker_does_not_judge_what_it_does_not_touch(empty: Connection) -> None:
    await empty.execute("CREATE SCHEMA pgflow; CREATE TABLE pgflow.jobs (id int)")
    assert (await install(empty, only=OWN)).action(OWN) is Action.INSTALLED


async def test_a_role_that_may_not_create_schemas_gets_the_statement_that_helps(empty_database: Database) -> None:
    worker = await empty_database.connect_as_worker()
    with pytest.raises(MissingRightsError, match=f'GRANT CREATE ON DATABASE "{empty_database.name}" TO "flowworker_w'):
        await install(worker)
    await worker.close()


async def test_a_read_only_server_is_refused(empty: Connection) -> None:
    await empty.execute("SET default_transaction_read_only = on")
    with pytest.raises(DatabaseUnavailableError, match="connect to the primary"):
        await install(empty)


async def test_no_superuser_and_no_extension_is_needed(owner: Connection) -> None:
    assert not await owner.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = $1", OWNER_ROLE)
    assert await owner.fetchval("SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql'") == 0


def test_the_packaged_sql_is_applied_without_extensions() -> None:
    assert (files("flowworker.database") / "upstream" / "pgmq" / "LICENSE").is_file()
    assert not any("CREATE EXTENSION" in file.sql for file in packaged_files())


LATER = PackagedFile(
    component=PGFLOW,
    name="29990101000000_later.sql",
    sql='CREATE FUNCTION "pgflow"."later" () RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$;',
    checksum="0",
)


async def test_a_later_migration_beside_ours_is_applied_after_ours(empty: Connection) -> None:
    await install(empty)
    assert next_file(await read_inventory(empty), packaged_files()) is None
    assert next_file(await read_inventory(empty), [*packaged_files(), LATER]) is LATER


async def test_a_later_migration_that_others_have_applied_is_not_applied_again(empty: Connection) -> None:
    await install(empty)
    await empty.execute(LATER.sql)
    assert next_file(await read_inventory(empty), [*packaged_files(), LATER]) is None


async def test_a_core_that_others_installed_gets_no_later_migration(empty: Connection) -> None:
    await apply_upstream(empty, PGMQ, REALTIME, PGFLOW)
    await install(empty)
    assert next_file(await read_inventory(empty), [*packaged_files(), LATER]) is None
