"""The index on pgflow's runs by when they started, which an installation makes."""

import asyncio

import pytest
from testkit.support.waiting import until
from tests.conftest import Database

from flowworker.database import run_index
from flowworker.database.connection import Connection, connect
from flowworker.database.install import install
from flowworker.database.packaged import Component
from flowworker.database.run_index import IndexReport

INDEX = "pgflow.flowworker_runs_started"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"
MAKING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active'
        AND cardinality(pg_blocking_pids(pid)) > 0
"""


async def test_an_installation_has_the_index(owner: Connection) -> None:
    assert await owner.fetchval(VALID, INDEX) is True


async def test_it_is_made_on_every_core_where_it_is_missing_and_once(catalogue: Database) -> None:
    owner = await catalogue.connect()
    await owner.execute(f"DROP INDEX {INDEX}")
    report = await install(owner)
    assert [statement.split(" ON ")[0] for statement in report.index.statements] == [
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS flowworker_runs_started"
    ]
    assert await owner.fetchval(VALID, INDEX) is True
    assert (await install(owner)).index == IndexReport()
    await owner.close()


async def test_an_index_of_others_serves_as_well(owner: Connection) -> None:
    await owner.execute(f"DROP INDEX {INDEX}; CREATE INDEX theirs ON pgflow.runs (started_at DESC)")
    assert (await install(owner)).index == IndexReport()
    assert await owner.fetchval(VALID, INDEX) is None


async def test_one_that_serves_only_some_runs_or_another_order_does_not(owner: Connection) -> None:
    await owner.execute(f"""
        DROP INDEX {INDEX};
        CREATE INDEX some_runs ON pgflow.runs (started_at) WHERE status = 'failed';
        CREATE INDEX another_order ON pgflow.runs (flow_slug, started_at);
        CREATE INDEX no_order ON pgflow.runs USING brin (started_at)
    """)
    assert len((await install(owner)).index.statements) == 1


async def test_only_flowworker_leaves_pgflow_s_tables_alone(owner: Connection) -> None:
    await owner.execute(f"DROP INDEX {INDEX}")
    assert (await install(owner, only=Component.FLOWWORKER)).index == IndexReport()
    assert await owner.fetchval(VALID, INDEX) is None


async def test_runs_start_while_it_is_made_and_a_transaction_that_stays_open_is_not_waited_for_without_end(
    database: Database, owner: Connection, worker: Connection, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owner.execute(f"DROP INDEX {INDEX}")
    monkeypatch.setattr(run_index, "PATIENCE", "2s")
    watching = await database.connect()
    old = worker.transaction()
    await old.start()
    await worker.execute("SELECT pgflow.start_flow('shop', '1')")
    installing = asyncio.create_task(install(owner))
    await until(lambda: watching.fetchval(MAKING), "the index waits for the older transaction")
    assert await watching.fetchval("SELECT status FROM pgflow.start_flow('shop', '2')") == "started"
    report = await installing
    assert report.index.statements == ()
    assert "an older transaction stays open" in (report.index.note or "")
    assert await watching.fetchval(VALID, INDEX) is False
    assert await owner.fetchval("SHOW lock_timeout") == await watching.fetchval("SHOW lock_timeout")
    await old.commit()
    again = (await install(owner)).index
    assert (again.note, len(again.statements)) == (None, 2)
    assert await watching.fetchval(VALID, INDEX) is True
    await watching.close()


async def test_a_limit_on_statements_does_not_end_it(
    database: Database, owner: Connection, worker: Connection, shop: str
) -> None:
    watching = await database.connect()
    await owner.execute(f"DROP INDEX {INDEX}; SET statement_timeout = '500ms'")
    old = worker.transaction()
    await old.start()
    await worker.execute("SELECT pgflow.start_flow('shop', '1')")
    installing = asyncio.create_task(install(owner))
    beyond = f"{MAKING} AND clock_timestamp() - query_start > interval '700ms'"
    await until(lambda: watching.fetchval(beyond), "the index takes longer than the limit")
    await old.commit()
    assert len((await installing).index.statements) == 1
    await watching.close()


async def test_installers_at_the_same_moment_make_one(database: Database, owner: Connection) -> None:
    await owner.execute(f"DROP INDEX {INDEX}")
    connections = [await database.connect() for _ in range(4)]
    reports = await asyncio.gather(*(install(connection) for connection in connections))
    assert sum(len(report.index.statements) for report in reports) == 1
    assert await owner.fetchval(VALID, INDEX) is True
    for connection in connections:
        await connection.close()


async def test_where_the_runs_belong_to_another_role_the_statement_is_given(
    database: Database, owner: Connection
) -> None:
    admin = await connect(database.superuser_dsn, application_name="test")
    await admin.execute(f"DROP INDEX {INDEX}; ALTER TABLE pgflow.runs OWNER TO CURRENT_USER")
    await admin.close()
    report = await install(owner)
    assert report.index.statements == ()
    assert "run as their owner: CREATE INDEX CONCURRENTLY" in (report.index.note or "")
