"""Notifications of a queue's inserts: found out, set up once, repaired after a crash."""

import asyncio
from dataclasses import replace

import pytest
from tests.conftest import Database, create_database, install_everything

from flowworker.database.connection import Connection
from flowworker.database.identifiers import insert_channel
from flowworker.database.local_server import LocalServer
from flowworker.database.notify_setup import NotifyFacts, NotifyStatus, decide, ensure_notify, notify_state

READY = NotifyFacts(
    queue="mail", role="worker", enable_arity=2, queue_exists=True, owns_queue=False, has_trigger=True,
    has_throttle=True, may_read=True, may_write=True, has_row=True,
)  # fmt: skip


@pytest.fixture
async def queue(owner: Connection) -> str:
    await owner.execute("SELECT pgmq.create('mail')")
    return "mail"


OBSTACLES = {
    NotifyStatus.NO_QUEUE: (replace(READY, queue_exists=False), "SELECT pgmq.create('mail')"),
    NotifyStatus.UPPER_CASE: (replace(READY, queue="Mail"), None),
    NotifyStatus.NO_FUNCTION: (replace(READY, enable_arity=0), "ALTER EXTENSION pgmq UPDATE"),
    NotifyStatus.NO_TRIGGER: (replace(READY, has_trigger=False), "SELECT pgmq.enable_notify_insert('mail')"),
    NotifyStatus.NO_RIGHTS: (
        replace(READY, may_write=False),
        'GRANT SELECT, INSERT, UPDATE ON pgmq.notify_insert_throttle TO "worker"',
    ),
    NotifyStatus.THROTTLE_LOST: (
        replace(READY, has_row=False),
        "INSERT INTO pgmq.notify_insert_throttle (queue_name, throttle_interval_ms) VALUES ('mail', 250)",
    ),
}


@pytest.mark.parametrize("status", OBSTACLES)
def test_every_obstacle_is_named_with_the_command_that_helps(status: NotifyStatus) -> None:
    facts, command = OBSTACLES[status]
    state = decide(facts)
    assert (state.status, state.command) == (status, command)
    assert not state.ready


def test_an_old_pgmq_without_throttle_needs_no_row() -> None:
    assert decide(replace(READY, enable_arity=1, has_throttle=False, has_row=False)).ready


async def test_the_owner_sets_up_and_a_worker_is_woken(owner: Connection, worker: Connection, queue: str) -> None:
    assert (await notify_state(worker, queue)).status is NotifyStatus.NO_TRIGGER
    assert (await ensure_notify(owner, queue)).ready
    assert (await notify_state(worker, queue)).ready
    woken = asyncio.Event()

    def wake(*_: object) -> None:
        woken.set()

    await worker.add_listener("pgmq.q_mail.INSERT", wake)
    await owner.execute("SELECT pgmq.send('mail', '{}')")
    await asyncio.wait_for(woken.wait(), 5)
    await worker.reset()


@pytest.mark.parametrize(("catalogue", "ready"), [("0.16", False), ("0.17", True)], indirect=["catalogue"])
async def test_a_flow_with_capitals_is_announced_from_core_0_17_on(catalogue: Database, ready: bool) -> None:
    owner, worker = await catalogue.connect(), await catalogue.connect_as_worker()
    await owner.execute("SELECT pgflow.create_flow('Mail'); SELECT pgflow.add_step('Mail', 'send')")
    assert (await ensure_notify(owner, "Mail")).ready is ready
    woken = asyncio.Event()

    def wake(*_: object) -> None:
        woken.set()

    await worker.add_listener(insert_channel("Mail"), wake)
    await owner.execute("SELECT pgflow.start_flow('Mail', '1')")
    if ready:
        await asyncio.wait_for(woken.wait(), 5)
    await worker.close()
    await owner.close()


async def test_what_is_there_is_not_made_anew(owner: Connection, queue: str) -> None:
    await ensure_notify(owner, queue)
    before = await owner.fetchval("SELECT oid FROM pg_trigger WHERE tgname LIKE 'trigger_notify%'")
    await ensure_notify(owner, queue)
    assert await owner.fetchval("SELECT oid FROM pg_trigger WHERE tgname LIKE 'trigger_notify%'") == before


async def test_many_at_once_make_one_trigger(database: Database, queue: str) -> None:
    connections = [await database.connect() for _ in range(5)]
    states = await asyncio.gather(*(ensure_notify(connection, queue) for connection in connections))
    assert all(state.ready for state in states)
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'trigger_notify%'"
    assert await connections[0].fetchval(triggers) == 1
    for connection in connections:
        await connection.close()


async def test_a_worker_without_the_trigger_changes_nothing(worker: Connection, queue: str) -> None:
    assert (await ensure_notify(worker, queue)).status is NotifyStatus.NO_TRIGGER


async def test_a_queue_under_a_long_write_is_not_waited_for(owner: Connection, database: Database, queue: str) -> None:
    writer = await database.connect_as_worker()
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("SELECT pgmq.send('mail', '{}')")
    assert (await ensure_notify(owner, queue)).status is NotifyStatus.NO_TRIGGER
    await transaction.rollback()
    await writer.close()
    assert (await ensure_notify(owner, queue)).ready


async def test_a_stranger_lacks_rights(owner: Connection, database: Database, queue: str) -> None:
    await ensure_notify(owner, queue)
    stranger = await database.connect_as_stranger()
    assert (await notify_state(stranger, queue)).status is NotifyStatus.NO_RIGHTS
    await stranger.close()


@pytest.mark.chaos
async def test_a_throttle_row_lost_in_a_crash_is_brought_back_by_a_worker(own_server: LocalServer) -> None:
    database = await create_database(own_server, "crash")
    await install_everything(database)
    owner = await database.connect()
    await owner.execute("SELECT pgmq.create('mail')")
    await ensure_notify(owner, "mail")
    await owner.close()
    await asyncio.to_thread(own_server.restart, "immediate")
    worker = await database.connect_as_worker()
    assert (await notify_state(worker, "mail")).status is NotifyStatus.THROTTLE_LOST
    assert (await ensure_notify(worker, "mail")).ready
    await worker.close()
