"""Runs that will not go on by themselves, on every core, and those that will."""

from collections.abc import AsyncIterator

import pytest
from tests.conftest import Database
from tests.integration.client.acting import START, fail
from tests.integration.client.test_workers import report

from flowworker.cli.output import as_table
from flowworker.cli.runs_view import STUCK_BECAUSE, stuck_columns
from flowworker.client import Client
from flowworker.database.connection import Connection
from flowworker.database.stuck_runs import StuckReason
from flowworker.errors import DataError

LONG_AGO = """
    UPDATE pgflow.step_tasks SET queued_at = queued_at - interval '1 hour', started_at = started_at - interval '30 min';
    UPDATE pgmq.q_shop SET vt = vt - interval '1 hour'
"""


@pytest.fixture
async def core(catalogue: Database) -> AsyncIterator[Connection]:
    """The owner's connection to a database that looks like one core after another, with a flow."""
    owner = await catalogue.connect()
    await owner.execute("SELECT pgflow.create_flow('shop', max_attempts => 2); SELECT pgflow.add_step('shop', 'items')")
    yield owner
    await owner.close()


async def reasons(database: Database) -> list[StuckReason]:
    async with Client(database.worker_dsn) as client:
        return [run.reason for run in await client.stuck_runs()]


async def test_a_run_that_no_worker_serves_is_stuck(catalogue: Database, core: Connection) -> None:
    async with Client(catalogue.worker_dsn) as client:
        run = await client.start("shop", 1)
        assert await client.stuck_runs() == []  # it has not waited long
        await core.execute(LONG_AGO)
        (found,) = await client.stuck_runs()
        assert (found.run_id, found.flow_slug, found.step_slug, found.task_index) == (run.run_id, "shop", "items", 0)
        assert found.reason is StuckReason.NOT_SERVED
        assert (found.started_at - found.since).total_seconds() == 3600
        worker = await report(core, "shop")
        assert await client.stuck_runs() == []
        await core.execute("UPDATE flowworker.workers SET state = 'stopped' WHERE worker_id = $1", worker)
        assert await client.stuck_runs() == []  # another one may be on its way
        await core.execute("UPDATE flowworker.workers SET ended_at = ended_at - interval '1 hour'")
        assert [one.run_id for one in await client.stuck_runs()] == [run.run_id]
        assert await client.stuck_runs(flow="other") == []


async def test_a_started_task_of_a_worker_that_is_gone_is_stuck_while_no_other_serves_the_flow(
    catalogue: Database, core: Connection
) -> None:
    async with Client(catalogue.worker_dsn) as client:
        run = await client.start("shop", 1)
        await core.execute(START, run.run_id, "items", 0)
        await core.execute("UPDATE pgflow.workers SET queue_name = 'shop'")
        await core.execute(LONG_AGO)
        assert await reasons(catalogue) == []  # a worker of other software beats
        await core.execute("UPDATE pgflow.workers SET last_heartbeat_at = last_heartbeat_at - interval '1 hour'")
        assert await reasons(catalogue) == [StuckReason.WORKER_GONE]
        await report(core, "shop")
        assert await reasons(catalogue) == []


async def test_a_run_whose_message_is_gone_is_stuck(catalogue: Database, core: Connection) -> None:
    async with Client(catalogue.worker_dsn) as client:
        await client.start("shop", 1)
    await report(core, "shop")
    assert await reasons(catalogue) == []
    await core.execute("SELECT pgmq.purge_queue('shop')")
    assert await reasons(catalogue) == [StuckReason.MESSAGE_GONE]


@pytest.mark.parametrize("catalogue", ["0.13", "0.14", "0.17"], indirect=True)
async def test_a_task_that_pgflow_has_given_up_is_stuck(catalogue: Database, core: Connection) -> None:
    async with Client(catalogue.worker_dsn) as client:
        run = await client.start("shop", 1)
    await report(core, "shop")
    await core.execute(START, run.run_id, "items", 0)
    await core.execute("UPDATE pgflow.step_tasks SET permanently_stalled_at = now()")
    assert await reasons(catalogue) == [StuckReason.STALLED]


async def test_workers_that_died_and_were_marked_by_none_serve_nothing(catalogue: Database, core: Connection) -> None:
    async with Client(catalogue.worker_dsn) as client:
        await client.start("shop", 1)
        await core.execute(LONG_AGO)
        await report(core, "shop")
        assert await client.stuck_runs(unserved_for=0) == []
        await core.execute("UPDATE flowworker.workers SET reported_at = reported_at - interval '1 hour'")
        assert [run.reason for run in await client.stuck_runs()] == [StuckReason.NOT_SERVED]


async def test_a_flow_whose_queue_was_dropped_is_stuck_and_hides_no_other(
    client: Client, owner: Connection, shop: str
) -> None:
    await owner.execute("SELECT pgflow.create_flow('all'); SELECT pgflow.add_step('all', 'items')")
    lost, other = await client.start("all", 1), await client.start(shop, 1)
    await owner.execute("SELECT pgmq.drop_queue('all')")
    found = await client.stuck_runs(unserved_for=0)
    assert [(run.run_id, run.reason) for run in found] == [
        (lost.run_id, StuckReason.MESSAGE_GONE), (other.run_id, StuckReason.NOT_SERVED),
    ]  # fmt: skip


@pytest.mark.parametrize("catalogue", ["0.17"], indirect=True)
async def test_of_a_task_in_the_queue_of_its_step_only_what_is_known_is_said(
    catalogue: Database, core: Connection
) -> None:
    async with Client(catalogue.worker_dsn) as client:
        await client.start("shop", 1)
    await core.execute("UPDATE pgflow.step_tasks SET queue_name = 'shop_items'; SELECT pgmq.drop_queue('shop')")
    assert await reasons(catalogue) == []
    await core.execute("UPDATE pgflow.step_tasks SET permanently_stalled_at = now()")
    assert await reasons(catalogue) == [StuckReason.STALLED]


async def test_a_run_without_an_open_task_is_stuck(catalogue: Database, core: Connection) -> None:
    async with Client(catalogue.worker_dsn) as client:
        await client.start("shop", 1)
    await report(core, "shop")
    await core.execute("UPDATE pgflow.step_tasks SET status = 'completed', completed_at = now()")
    assert await reasons(catalogue) == [StuckReason.NOTHING_LEFT]


async def test_a_run_that_has_ended_or_backs_off_is_not_stuck(catalogue: Database, core: Connection) -> None:
    async with Client(catalogue.worker_dsn) as client:
        backing_off, ended = await client.start("shop", 1), await client.start("shop", 2)
        await fail(core, backing_off, "items", "busy")
        for _ in range(2):
            await core.execute(START.replace("attempts_count = 1", "attempts_count = 2"), ended.run_id, "items", 0)
        await core.execute("SELECT pgflow.fail_task($1, 'items', 0, 'no stock')", ended.run_id)
        assert (await client.run(ended.run_id)).run.has_ended
    await core.execute("UPDATE pgflow.workers SET last_heartbeat_at = last_heartbeat_at - interval '1 hour'")
    assert await reasons(catalogue) == []


async def test_what_is_stuck_is_listed_flow_by_flow_and_at_most_so_many(
    client: Client, owner: Connection, shop: str
) -> None:
    await owner.execute("SELECT pgflow.create_flow('all'); SELECT pgflow.add_step('all', 'items')")
    runs = [await client.start(flow, 1) for flow in (shop, "all", shop)]
    found = await client.stuck_runs(unserved_for=0)
    assert [one.run_id for one in found] == [runs[1].run_id, runs[0].run_id, runs[2].run_id]
    assert [one.run_id for one in await client.stuck_runs(unserved_for=0, limit=2)] == [runs[1].run_id, runs[0].run_id]
    shown = as_table(stuck_columns(found[0].started_at), found)
    assert "items[0]" in shown
    assert STUCK_BECAUSE[StuckReason.NOT_SERVED] in shown


async def test_a_look_that_takes_too_long_is_ended(client: Client, owner: Connection, shop: str) -> None:
    await client.start(shop, 1)
    async with owner.transaction():
        await owner.execute("LOCK TABLE pgmq.q_shop IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DataError, match=r"took longer than 0\.2 s and was ended"):
            await client.stuck_runs(timeout=0.2)


def test_every_reason_has_words() -> None:
    assert STUCK_BECAUSE.keys() == set(StuckReason)
