"""One connection and one statement for all subjects of a database, however many, and none where nothing is watched."""

import asyncio
import itertools
import time

import pytest
from testkit.support.proxy import Proxy
from testkit.support.waiting import PATIENCE, hold_for, until
from tests.conftest import Database
from tests.integration.operator.observer import Observer, send, subject

from flowworker.database.connection import Connection
from flowworker.database.identifiers import insert_channel
from flowworker_operator.database import Reading, Subject, watcher

MANY = 200


async def connections(owner: Connection) -> int:
    return await owner.fetchval(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'flowworker-operator' AND datname = current_database()"
    )


async def create_many(owner: Connection) -> list[Subject]:
    """Half of them flows, half of them queues, each with its tables and something to do."""
    await owner.execute(
        "SELECT pgflow.create_flow('flow_' || n), pgflow.add_step('flow_' || n, 'only'), "
        "pgflow.start_flow('flow_' || n, '{}'), pgmq.create('queue_' || n), pgmq.send('queue_' || n, '{}') "
        f"FROM generate_series(1, {MANY // 2}) n"
    )
    flows = [subject(f"flow_{number}") for number in range(1, MANY // 2 + 1)]
    return [*flows, *(subject(f"queue_{number}", "queue") for number in range(1, MANY // 2 + 1))]


async def test_two_hundred_share_one_connection_and_one_statement_for_each_tick(
    observer: Observer, database: Database, owner: Connection
) -> None:
    subjects = await create_many(owner)
    async with Proxy(database.server.port) as proxy:
        observer.watch(proxy.dsn(database.worker_dsn), *subjects)

        def all_read() -> bool:
            return all((found := observer.demand(one)) is not None and found.startable == 1 for one in subjects)

        await until(all_read, "everything is read", patience=60)
        ticks: set[float] = set()
        before = proxy.begun

        def ten_ticks() -> bool:
            reading = observer.databases.reading(subjects[0].key)
            assert reading is not None
            ticks.add(reading.tick)
            return len(ticks) >= 11

        await until(ten_ticks, "ten more ticks", patience=60)
        assert proxy.begun - before in (10, 11), "one statement for each tick"
        assert proxy.accepted == 1
        assert await connections(owner) == 1
        first = observer.databases.reading(subjects[0].key)
        assert {getattr(observer.databases.reading(one.key), "tick", None) for one in subjects} == {
            getattr(first, "tick", 0)
        }
        await observer.databases.close()


async def test_connection_strings_that_mean_the_same_share_a_connection(
    observer: Observer, database: Database, owner: Connection
) -> None:
    plain = database.worker_dsn
    variants = [plain, plain.replace("postgresql://", "postgres://"), plain.replace("127.0.0.1", "%3127.0.0.1")]
    for number, dsn in enumerate(variants):
        observer.watch(dsn, subject(f"flow_{number}"))
    for number in range(len(variants)):
        await observer.reads(subject(f"flow_{number}"))
    assert await connections(owner) == 1


async def test_another_role_is_another_connection(observer: Observer, database: Database, owner: Connection) -> None:
    observer.watch(database.worker_dsn, subject("one"))
    observer.watch(database.dsn, subject("two"))
    await observer.reads(subject("one"))
    await observer.reads(subject("two"))
    assert await connections(owner) == 2


async def test_who_is_forgotten_is_read_no_more_and_the_last_closes_the_connection(
    observer: Observer, database: Database, owner: Connection
) -> None:
    one, two = subject("one"), subject("two")
    observer.watch(database.worker_dsn, one, two)
    await observer.reads(two)
    observer.databases.forget(one.key)
    assert observer.databases.reading(one.key) is None
    await observer.reads(two)
    observer.databases.forget(two.key)

    async def closed() -> bool:
        return await connections(owner) == 0

    await until(closed, "the connection is closed")


async def test_a_rotated_secret_moves_the_subject_and_keeps_what_is_known(
    observer: Observer, database: Database, owner: Connection
) -> None:
    one = subject("one")
    observer.watch(database.worker_dsn, one)
    before = await observer.reads(one)
    observer.watch(database.dsn, one)
    assert observer.databases.reading(one.key) == before
    await observer.reads(one)

    async def single() -> bool:
        return await connections(owner) == 1

    await until(single, "the old connection is closed")


async def test_the_same_database_is_recognised_however_it_is_reached(observer: Observer, database: Database) -> None:
    async with Proxy(database.server.port) as proxy:
        observer.watch(database.worker_dsn, subject("one"))
        observer.watch(proxy.dsn(database.worker_dsn), subject("two"))
        one, two = await observer.reads(subject("one")), await observer.reads(subject("two"))
        assert one.database == two.database
        assert one.database.endswith(f"/{database.name}")
        await observer.databases.close()


async def test_work_is_noticed_soon_where_no_worker_runs_and_nothing_else_is_reported(
    observer: Observer, database: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "INTERVAL", 300.0)
    await owner.execute("SELECT pgmq.create('mail')")
    mail, other = subject("mail", "queue"), subject("other", "queue", eager=False)
    observer.watch(database.worker_dsn, mail, other)
    await observer.reads(mail)
    await observer.reads(mail)
    observer.changed.clear()
    await send(owner, "mail")
    await until(lambda: mail.key in observer.changed, "the work is noticed without the pause of a worker that runs")
    await observer.reads(other)
    assert set(observer.changed) == {mail.key}


async def test_work_is_heard_of_between_two_ticks_where_inserts_notify(
    observer: Observer, database: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "EAGER_INTERVAL", 300.0)
    await owner.execute("SELECT pgmq.create('mail'), pgmq.enable_notify_insert('mail', 0)")
    for cap in (11, 21):  # one more after all work is done, and after the connection was lost
        mail = subject("mail", "queue", cap=cap)
        observer.watch(database.worker_dsn, mail)
        await until(lambda mail=mail: startable(observer, mail) == 0, "no work is seen")
        await hold_for(5 * watcher.SHORTEST_REST)  # the look that follows a new LISTEN is over: none comes by itself
        await send(owner, "mail")
        await until(lambda mail=mail: startable(observer, mail) == 1, "the work is heard of")
        await owner.execute("SELECT pgmq.purge_queue('mail')")
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'flowworker-operator' AND datname = current_database()"
        )


async def test_a_database_that_announces_all_the_time_is_looked_at_as_often_as_any_other(
    database: Database, owner: Connection
) -> None:
    mail = subject("mail", "queue")
    await owner.execute("SELECT pgmq.create('mail')")
    observer = Observer(clock=lambda: 1000.0)  # what it may spend never grows again
    observer.watch(database.worker_dsn, mail)
    looked = list[float]()
    last: Reading | None = None
    async with asyncio.timeout(PATIENCE):
        while len(looked) < watcher.HURRY.burst + 4:
            await owner.execute(f'NOTIFY "{insert_channel("mail")}"')
            reading = observer.databases.reading(mail.key)
            if reading is not last:
                looked.append(time.monotonic())
            last = reading
            await asyncio.sleep(0.01)
    await observer.databases.close()
    pauses = [later - earlier for earlier, later in itertools.pairwise(looked)]
    assert min(pauses[-2:]) > 0.7 * watcher.EAGER_INTERVAL, pauses


def startable(observer: Observer, one: Subject) -> int | None:
    found = observer.demand(one)
    return None if found is None else found.startable


async def test_becoming_eager_does_not_wait_for_the_next_tick(
    observer: Observer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "INTERVAL", 300.0)
    calm, eager = subject("one", eager=False), subject("one")
    observer.watch(database.worker_dsn, calm)
    await observer.reads(calm)
    observer.watch(database.worker_dsn, eager)
    await observer.reads(eager)


async def test_closing_leaves_no_task_and_no_connection(database: Database, owner: Connection) -> None:
    before = asyncio.all_tasks()
    observer = Observer()
    observer.watch(database.worker_dsn, subject("one"))
    await observer.reads(subject("one"))
    await observer.databases.close()
    assert asyncio.all_tasks() == before

    async def closed() -> bool:
        return await connections(owner) == 0

    await until(closed, "the connection is closed")
    await observer.databases.close()
