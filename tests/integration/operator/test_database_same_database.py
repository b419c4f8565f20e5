"""A database that calls itself another one takes nothing away from who uses that one."""

from collections.abc import AsyncIterator
from itertools import count

import pytest
from testkit.support.proxy import Proxy, Weather
from testkit.support.waiting import until
from tests.conftest import Database, create_database, drop_database
from tests.integration.operator.observer import Observer, subject

from flowworker.database.connection import Connection, connect
from flowworker_operator.database import SameDatabase

CLAIMANT, OTHER = subject("one_step", name="older"), subject("one_step", name="younger")

_numbers = count(1)


@pytest.fixture
async def impostor(database: Database, template: str) -> AsyncIterator[Database]:
    """Another database that calls itself like the first."""
    made = await create_database(database.server, f"impostor_{next(_numbers)}", template)
    superuser = await connect(made.superuser_dsn, application_name="test")
    await superuser.execute(
        f"""
        SET allow_system_table_mods = on;
        CREATE OR REPLACE FUNCTION pg_catalog.current_database() RETURNS name LANGUAGE sql STABLE
            AS $$ SELECT '{database.name}'::name $$;
        """
    )
    await superuser.close()
    yield made
    await drop_database(made)


async def known(observer: Observer) -> SameDatabase:
    """What becomes known of the two."""

    def decided() -> SameDatabase | None:
        same_database = observer.databases.same_database(CLAIMANT.key, OTHER.key)
        return None if same_database is SameDatabase.UNKNOWN else same_database

    return await until(decided, "it is known whether they are one", patience=30)


async def test_one_database_under_two_roles_is_recognised(observer: Observer, database: Database) -> None:
    observer.watch(database.dsn, CLAIMANT)
    observer.watch(database.worker_dsn, OTHER)
    assert await known(observer) is SameDatabase.SAME
    assert OTHER.key in observer.changed


async def test_one_connection_needs_no_proof(observer: Observer, database: Database) -> None:
    observer.watch(database.worker_dsn, CLAIMANT, OTHER)
    assert observer.databases.same_database(CLAIMANT.key, OTHER.key) is SameDatabase.SAME


async def test_a_database_that_takes_the_name_of_another_is_found_out(
    observer: Observer, database: Database, impostor: Database
) -> None:
    observer.watch(impostor.worker_dsn, CLAIMANT)
    observer.watch(database.worker_dsn, OTHER)
    one, two = await observer.reads(CLAIMANT), await observer.reads(OTHER)
    assert one.database == two.database, "it is believed to be the same"
    assert await known(observer) is SameDatabase.DIFFERENT


async def test_a_claimant_that_does_not_answer_proves_nothing(observer: Observer, database: Database) -> None:
    async with Proxy(database.server.port) as proxy:
        observer.watch(proxy.dsn(database.dsn), CLAIMANT)
        observer.watch(database.worker_dsn, OTHER)
        await observer.reads(CLAIMANT)
        await observer.reads(OTHER)
        proxy.weather = Weather.REFUSED
        observer.changed.clear()
        assert observer.databases.same_database(CLAIMANT.key, OTHER.key) is SameDatabase.UNKNOWN
        await until(lambda: OTHER.key in observer.changed, "the proof has ended", patience=30)
        assert observer.databases.same_database(CLAIMANT.key, OTHER.key) is SameDatabase.UNKNOWN
        await observer.databases.close()


async def test_functions_of_others_do_not_answer_in_place_of_the_catalogue(
    observer: Observer, database: Database, owner: Connection
) -> None:
    observer.watch(database.worker_dsn, OTHER)
    before = (await observer.reads(OTHER)).database
    await owner.execute(
        f"""
        CREATE SCHEMA traps;
        CREATE FUNCTION traps.current_database() RETURNS name LANGUAGE sql AS $$ SELECT 'another'::name $$;
        CREATE FUNCTION traps.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
        CREATE FUNCTION traps.has_table_privilege(regclass, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
        CREATE VIEW traps.pg_class AS SELECT oid, relname, relnamespace, relkind FROM pg_catalog.pg_class WHERE false;
        GRANT USAGE ON SCHEMA traps TO PUBLIC;
        GRANT SELECT ON traps.pg_class TO PUBLIC;
        ALTER DATABASE {database.name} SET search_path = traps, pg_catalog;
        """
    )
    observer.databases.forget(OTHER.key)
    observer.watch(f"{database.worker_dsn}?search_path=traps,pg_catalog", OTHER)
    assert (await observer.reads(OTHER)).database == before
