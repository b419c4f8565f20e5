"""No role runs anything with the owner's rights unless it was given that, and doctor finds where one could."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from tests.conftest import OWNER_ROLE, WORKER_ROLE, Database

from flowworker.database.connection import Connection
from flowworker.database.doctor import Finding, Level, diagnose
from flowworker.database.examination import examine
from flowworker.database.install import install

NOW = datetime.now(UTC)

UNPIN = """
    ALTER FUNCTION pgflow.get_run_with_states(uuid) RESET search_path;
    ALTER FUNCTION pgflow.start_flow_with_states(text, jsonb, uuid) RESET search_path;
"""
"""As upstream's core has them, and as installations from before have them."""


@pytest.fixture
async def second(database: Database) -> AsyncIterator[Connection]:
    connection = await database.connect_as_worker()
    yield connection
    await connection.close()


async def escalations(worker: Connection, second: Connection) -> list[Finding]:
    findings = diagnose(await examine(worker, second, now=lambda: NOW))
    return [finding for finding in findings if finding.check == "escalation" and finding.level is not Level.OK]


async def run_as(worker: Connection, owner: Connection, call: str) -> object:
    """Who a function is that a worker puts in the way of one of the owner's: the owner, where that works."""
    await owner.execute(f"CREATE SCHEMA IF NOT EXISTS trap; GRANT ALL ON SCHEMA trap TO {WORKER_ROLE}")
    await worker.execute("""
        CREATE TABLE IF NOT EXISTS trap.seen (role text);
        GRANT ALL ON trap.seen TO PUBLIC; TRUNCATE trap.seen;
        CREATE OR REPLACE FUNCTION trap.to_jsonb(pgflow.runs) RETURNS jsonb LANGUAGE sql AS
            'INSERT INTO trap.seen VALUES (current_user); SELECT ''{}''::jsonb';
        SET search_path = trap, pg_catalog;
    """)
    await worker.execute(call)
    await worker.execute("RESET search_path")
    return await worker.fetchval("SELECT max(role) FROM trap.seen")


async def test_a_worker_cannot_run_its_own_function_as_the_owner(owner: Connection, worker: Connection) -> None:
    await owner.execute("SELECT pgflow.create_flow('sample'); SELECT pgflow.add_step('sample', 'only')")
    run_id = uuid4()
    await owner.execute("SELECT pgflow.start_flow('sample', '{}', $1)", run_id)
    calls = (
        f"SELECT pgflow.get_run_with_states('{run_id}')",
        f"SELECT pgflow.start_flow_with_states('sample', '{{}}', '{uuid4()}')",
    )
    for call in calls:
        assert await run_as(worker, owner, call) is None
    await owner.execute(UNPIN)  # the trap would catch what is not pinned
    assert await run_as(worker, owner, calls[0]) == OWNER_ROLE


async def test_an_installation_from_before_is_pinned_by_the_next_one(
    owner: Connection, worker: Connection, second: Connection
) -> None:
    await owner.execute(UNPIN)
    (finding,) = await escalations(worker, second)
    assert "pgflow.get_run_with_states(uuid)" in finding.found
    assert "flowworker db install" in str(finding.advice)
    assert len((await install(owner)).pins) == 2
    assert await escalations(worker, second) == []
    assert (await install(owner)).pins == []


async def test_doctor_finds_schemas_in_which_everyone_may_create(
    owner: Connection, worker: Connection, second: Connection
) -> None:
    await owner.execute("GRANT CREATE ON SCHEMA pgmq TO PUBLIC")
    await owner.execute(f"GRANT CREATE ON SCHEMA pgflow TO {WORKER_ROLE}")
    found = {finding.advice: finding.found for finding in await escalations(worker, second)}
    assert set(found) == {
        "REVOKE CREATE ON SCHEMA pgmq FROM PUBLIC",
        f'REVOKE CREATE ON SCHEMA pgflow FROM "{WORKER_ROLE}"',
    }
    for advice in found:
        await owner.execute(str(advice))
    assert await escalations(worker, second) == []
