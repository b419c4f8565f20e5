"""Retrying and cancelling many runs: which ones, once each, whatever ends the call, and what is on record."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from tests.conftest import ADMIN_ROLE, WORKER_ROLE, Database
from tests.integration.client.acting import fail

from flowworker.client import Client
from flowworker.database.bulk import BulkAction, BulkProgress
from flowworker.database.connection import Connection, connect
from flowworker.database.grants import Profile, grant
from flowworker.database.install import install
from flowworker.database.records import RunStatus
from flowworker.database.run_search import RunFilter
from flowworker.database.runs import retry_id
from flowworker.errors import DataError, MissingRightsError, UnsupportedSchemaError, UsageError
from flowworker.telemetry.events import RunStarted
from flowworker.telemetry.stream import EventStream

FAILURES = """
    WITH started AS (SELECT run_id FROM generate_series(1, $2::integer) AS n, pgflow.start_flow($1::text, to_jsonb(n)))
    SELECT count(*) FROM started
"""
FAIL_ALL = "UPDATE pgflow.runs SET status = 'failed', failed_at = clock_timestamp() WHERE status = 'started'"
BY_STATUS = "SELECT status, count(*) AS runs FROM pgflow.runs GROUP BY status"
KILL_ON = """
    CREATE SEQUENCE public.writes;
    GRANT USAGE ON SEQUENCE public.writes TO PUBLIC;
    CREATE FUNCTION public.kill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF nextval('public.writes') IN (1, 250, 900) THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
        END IF;
        RETURN NULL;
    END
    $$;
"""
ANY = RunFilter()


async def failures(owner: Connection, count: int, flow: str = "shop") -> None:
    """Runs that have failed."""
    await owner.execute(FAILURES, flow, count)
    await owner.execute(FAIL_ALL)


async def by_status(owner: Connection) -> dict[str, int]:
    return {row["status"]: row["runs"] for row in await owner.fetch(BY_STATUS)}


async def requests(owner: Connection, kind: str = "runs") -> list[dict[str, Any]]:
    rows = await owner.fetch("SELECT * FROM flowworker.requests WHERE kind = $1 ORDER BY request_id", kind)
    return [{**row, "details": orjson.loads(row["details"])} for row in rows]


@pytest.fixture
async def core(catalogue: Database) -> AsyncIterator[Connection]:
    """The owner's connection to a database that looks like one core after another, with a flow."""
    owner = await catalogue.connect()
    await owner.execute("SELECT pgflow.create_flow('shop', max_attempts => 1); SELECT pgflow.add_step('shop', 'items')")
    yield owner
    await owner.close()


async def test_what_failed_is_retried_and_what_was_cancelled_or_retried_is_not_on_every_core(
    catalogue: Database, core: Connection
) -> None:
    async with Client(catalogue.worker_dsn) as client, Client(catalogue.admin_dsn) as admin:
        failed, retried, cancelled, active = [await client.start("shop", {"n": n}) for n in range(4)]
        for run in (failed, retried):
            await fail(core, run, "items", "no stock")
        again = await client.retry(retried.run_id)
        await admin.cancel_run(cancelled.run_id)
        plan = await client.preview_runs(BulkAction.RETRY, ANY)
        assert (plan.runs, plan.flows, [run.run_id for run in plan.sample]) == (1, {"shop": 1}, [failed.run_id])
        assert plan.sample[0].error == "no stock"
        result = await client.retry_runs(plan, reason="stock is back", actor="ada")
        assert (result.runs, result.refused, result.locked) == (1, [], 0)
        new = await client.run(retry_id(failed.run_id))
        assert (new.run.input, new.run.status, new.retry_of) == ({"n": 0}, RunStatus.STARTED, failed.run_id)
        assert {run.run_id for run in await client.runs(status=RunStatus.STARTED)} == {
            active.run_id, again.run_id, new.run.run_id,
        }  # fmt: skip
    link = await core.fetchrow("SELECT * FROM flowworker.run_links")
    assert link is not None
    assert (link["request_id"], link["run_id"], link["new_run_id"]) == (
        result.request_id, failed.run_id, new.run.run_id,
    )  # fmt: skip


async def test_the_whole_is_on_record_when_it_begins_and_with_what_came_of_it(
    client: Client, owner: Connection, shop: str
) -> None:
    await failures(owner, 3)
    which = RunFilter(flow_slug=shop, since=timedelta(hours=1))
    result = await client.retry_runs(which, reason="stock is back", actor="ada")
    begun, done = await requests(owner)
    for row in (begun, done):
        assert (row["actor"], row["database_role"], row["action"], row["slug"], row["target"], row["reason"]) == (
            "ada", WORKER_ROLE, "retry", shop, None, "stock is back",
        )  # fmt: skip
    assert (begun["request_id"], begun["outcome"]) == (result.request_id, "begun")
    assert begun["details"]["runs"] == 3
    assert done["outcome"] == "done"
    assert done["details"] == {"request": result.request_id, "runs": 3, "refused": 0}
    assert (await client.retry_runs(which)).request_id is None
    assert len(await requests(owner)) == 2


async def test_filters_choose_the_runs(client: Client, owner: Connection, worker: Connection, shop: str) -> None:
    await owner.execute("SELECT pgflow.create_flow('other'); SELECT pgflow.add_step('other', 'items')")
    run = await client.start(shop, {"customer": {"id": 7}})
    await fail(worker, run, "items", "no STOCK today")
    await failures(owner, 2, "other")
    for which in (
        RunFilter(flow_slug=shop), RunFilter(error="stock"), RunFilter(id_prefix=run.run_id.hex[:20]),
        RunFilter(input={"customer.id": "7"}),
        RunFilter(since=run.started_at, until=run.started_at + timedelta(microseconds=1)),
    ):  # fmt: skip
        plan = await client.preview_runs(BulkAction.RETRY, which)
        assert [one.run_id for one in plan.sample] == [run.run_id], which
    assert (await client.preview_runs(BulkAction.RETRY, RunFilter(until=timedelta(hours=1)))).runs == 0
    with pytest.raises(UsageError, match="before the calendar begins"):
        await client.preview_runs(BulkAction.RETRY, RunFilter(since=timedelta(days=999_999)))


async def test_what_fails_later_is_no_part_of_it_also_when_the_call_is_repeated(
    client: Client, owner: Connection, shop: str
) -> None:
    await failures(owner, 600)
    which = RunFilter(since=timedelta(hours=1))

    def stop(progress: BulkProgress) -> None:
        assert (progress.done, progress.runs) == (500, 600)
        raise KeyError

    with pytest.raises(KeyError):
        await client.retry_runs(which, progress=stop, actor="ada")
    await owner.execute(FAIL_ALL)  # the retries fail at once
    await failures(owner, 5)
    plan = await client.preview_runs(BulkAction.RETRY, which)
    assert plan.unfinished is not None
    assert (plan.runs, plan.unfinished.runs, plan.unfinished.actor) == (100, 600, "ada")
    result = await client.retry_runs(which, actor="grace")
    assert (result.request_id, result.runs) == (plan.unfinished.request_id, 600)
    assert await by_status(owner) == {"failed": 1105, "started": 100}
    assert [row["outcome"] for row in await requests(owner)] == ["begun", "done"]


async def test_a_session_that_is_ended_again_and_again_loses_and_doubles_nothing(
    client: Client, database: Database, owner: Connection, shop: str
) -> None:
    await failures(owner, 1100)
    superuser = await connect(database.superuser_dsn, application_name="test")
    await superuser.execute(KILL_ON)
    for table in ("pgflow.runs", "flowworker.run_links", "flowworker.requests"):
        await superuser.execute(
            f"CREATE TRIGGER kill AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION public.kill()"
        )
    result = await client.retry_runs(ANY)
    assert await superuser.fetchval("SELECT last_value FROM public.writes") > 900
    await superuser.close()
    assert result.runs == 1100
    assert await by_status(owner) == {"failed": 1100, "started": 1100}
    assert await owner.fetchval("SELECT count(DISTINCT run_id) FROM flowworker.run_links") == 1100
    assert [row["outcome"] for row in await requests(owner)] == ["begun", "done"]


async def test_several_calls_at_once_retry_each_run_once(client: Client, owner: Connection, shop: str) -> None:
    await failures(owner, 700)
    runs = await client.runs(limit=1)
    results = await asyncio.gather(*(client.retry_runs(ANY) for _ in range(3)), client.retry(runs[0].run_id))
    assert results
    assert await by_status(owner) == {"failed": 700, "started": 700}
    assert await owner.fetchval("SELECT count(*) - count(DISTINCT new_run_id) FROM flowworker.run_links") == 0


async def test_a_run_that_pgflow_refuses_keeps_none_of_the_others(client: Client, owner: Connection) -> None:
    await owner.execute(
        "SELECT pgflow.create_flow('list'); SELECT pgflow.add_step('list', 'items', step_type => 'map')"
    )
    runs = [await client.start("list", [n]) for n in range(4)]
    await owner.execute(FAIL_ALL)
    await owner.execute("UPDATE pgflow.runs SET input = '1' WHERE run_id = $1", runs[1].run_id)
    result = await client.retry_runs(ANY)
    assert result.runs == 3
    assert [refused.run_id for refused in result.refused] == [runs[1].run_id]
    assert "array" in result.refused[0].error
    await owner.execute("UPDATE pgflow.runs SET input = '[1]' WHERE run_id = $1", runs[1].run_id)
    assert (await client.retry_runs(ANY)).runs == 1


async def test_each_run_that_was_started_is_an_event(database: Database, owner: Connection, shop: str) -> None:
    await failures(owner, 2)
    heard: list[UUID] = []
    events = EventStream()
    events.subscribe(lambda event: heard.append(event.run_id) if isinstance(event, RunStarted) else None)
    async with Client(database.worker_dsn, events=events) as client:
        old = [run.run_id for run in await client.runs()]
        await client.retry_runs(ANY)
    assert set(heard) == {retry_id(run_id) for run_id in old}


async def test_all_runs_under_way_that_are_found_are_cancelled_on_every_core(
    catalogue: Database, core: Connection
) -> None:
    async with Client(catalogue.admin_dsn) as admin:
        for n in range(3):
            await admin.start("shop", {"n": n % 2})
        result = await admin.cancel_runs(RunFilter(input={"n": "0"}), reason="wrong price", actor="ada")
        assert (result.runs, result.locked) == (2, 0)
        found = await admin.runs(error="cancelled by ada: wrong price")
    assert len(found) == 2
    assert await by_status(core) == {"failed": 2, "started": 1}
    begun, done = await requests(core)
    assert (begun["action"], begun["target"], begun["database_role"], done["outcome"]) == (
        "cancel", "*", ADMIN_ROLE, "done",
    )  # fmt: skip
    single = await requests(core, "run")
    assert {row["target"] for row in single} == {str(run.run_id) for run in found}
    assert all(row["details"]["request"] == result.request_id for row in single)


async def test_a_locked_run_is_left_for_the_next_call_and_what_starts_meanwhile_is_not_cancelled(
    admin: Client, worker: Connection, owner: Connection, shop: str
) -> None:
    runs = [await admin.start(shop, n) for n in range(3)]
    which = RunFilter(flow_slug=shop)
    async with worker.transaction():
        await worker.execute("SELECT FROM pgflow.runs WHERE run_id = $1 FOR UPDATE", runs[1].run_id)
        result = await admin.cancel_runs(which)
    assert (result.runs, result.locked) == (2, 1)
    await admin.start(shop, 4)
    again = await admin.cancel_runs(which)
    assert (again.request_id, again.runs, again.locked) == (result.request_id, 3, 0)
    assert await by_status(owner) == {"failed": 3, "started": 1}
    assert [row["outcome"] for row in await requests(owner)] == ["begun", "done"]


async def test_neither_a_worker_nor_a_client_cancels_many(client: Client, owner: Connection, shop: str) -> None:
    await client.start(shop, 1)
    with pytest.raises(MissingRightsError, match=r"may not cancel runs.*db install --admin-role ROLE"):
        await client.cancel_runs(ANY)
    assert await by_status(owner) == {"started": 1}
    assert await requests(owner) == []


FORGED = {
    "with a target": "(actor, action, kind, slug, outcome, target) VALUES ('x', 'cancel', 'runs', '*', 'begun', '*')",
    "without a target": "(actor, action, kind, slug, outcome) VALUES ('x', 'cancel', 'runs', '*', 'begun')",
    "of one run": "(actor, action, kind, slug, outcome) VALUES ('x', 'retry', 'run', '*', 'cancelled')",
    "as another role": "(actor, action, kind, slug, outcome, database_role) VALUES ('x', 'retry', 'runs', '*', '', '')",
}


@pytest.mark.parametrize("row", FORGED)
async def test_who_may_retry_can_forge_no_cancellation(worker: Connection, row: str) -> None:
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.CheckViolationError)):
        await worker.execute(f"INSERT INTO flowworker.requests {FORGED[row]}")


@pytest.mark.parametrize("act", ["UPDATE flowworker.run_links SET run_id = run_id", "DELETE FROM flowworker.run_links"])
async def test_links_cannot_be_changed_by_those_who_act(database: Database, act: str) -> None:
    connection = await connect(database.admin_dsn, application_name="test")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(act)
    await connection.close()


async def test_a_preview_is_for_one_action(admin: Client, owner: Connection, shop: str) -> None:
    await failures(owner, 1)
    with pytest.raises(DataError, match="a preview of runs to retry, not to cancel"):
        await admin.cancel_runs(await admin.preview_runs(BulkAction.RETRY, ANY))


async def test_the_database_computes_the_id_of_a_retry_as_the_client_does(worker: Connection) -> None:
    for run_id in (UUID(int=0), UUID(int=(1 << 128) - 1), *(uuid4() for _ in range(200))):
        assert await worker.fetchval("SELECT flowworker.retry_id($1)", run_id) == retry_id(run_id)


async def test_a_role_whose_rights_are_from_before_retries_single_runs_and_learns_what_many_take(
    client: Client, owner: Connection, shop: str
) -> None:
    await failures(owner, 2)
    await owner.execute(f"REVOKE INSERT ON flowworker.requests FROM {WORKER_ROLE}")
    run = (await client.runs(limit=1))[0]
    assert (await client.retry(run.run_id)).status is RunStatus.STARTED
    with pytest.raises(MissingRightsError, match=r"may not retry runs.*db install --client-role ROLE"):
        await client.retry_runs(ANY)


async def test_an_installation_from_before_is_brought_up_to_date(admin: Client, owner: Connection, shop: str) -> None:
    await failures(owner, 1)
    await owner.execute("""
        ALTER TABLE flowworker.requests
            DROP CONSTRAINT requests_target_check, DROP CONSTRAINT requests_action_check,
            DROP CONSTRAINT requests_kind_check, ALTER COLUMN target SET NOT NULL,
            ADD CONSTRAINT requests_action_check CHECK (action IN ('cancel')),
            ADD CONSTRAINT requests_kind_check CHECK (kind IN ('run', 'job'));
        DROP TABLE flowworker.run_links;
        DROP FUNCTION flowworker.retry_runs, flowworker.retry_id, flowworker.note_request_for_runs;
        UPDATE flowworker.ledger SET checksum = 'before' WHERE component = 'flowworker'
    """)
    with pytest.raises(UnsupportedSchemaError, match=r"cannot retry runs.*flowworker db install"):
        await admin.retry_runs(ANY)
    await install(owner)
    await grant(owner, ADMIN_ROLE, Profile.ADMINISTRATOR)
    assert (await admin.retry_runs(ANY)).runs == 1
