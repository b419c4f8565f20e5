"""A worker that died without a word is lost within 20 seconds, and no other ever is."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import time_machine
from testkit.support.proxy import Proxy, Weather
from testkit.support.waiting import hold_for, until
from tests.conftest import Database
from tests.integration.operator.observer import Observer, report, subject
from tests.integration.sources.world import report as reported

from flowworker.database.connection import Connection, connect
from flowworker.database.heartbeat import Report, beat, register
from flowworker.database.lost_peers import GRACE_AFTER_LOCK
from flowworker.database.records import SourceKind
from flowworker.errors import FlowWorkerError
from flowworker_operator.bounded import RateLimit
from flowworker_operator.database import watcher
from flowworker_operator.domain.snapshot import WorkerState

pytestmark = pytest.mark.slow

MAIL = subject("mail", "queue", eager=False)
BEAT = 1.0
DEATH = 12.0
"""Seconds of silence after which a worker would have been declared dead."""
LOST_WITHIN = 20.0


class Fleet:
    """Workers that beat from a thread of their own, as the pulse of a real one does."""

    def __init__(self, dsn: str, *pods: str) -> None:
        self.workers = {pod: uuid4() for pod in pods}
        self.beating = threading.Event()
        self.beating.set()
        self.ended = threading.Event()
        self._dsn = dsn

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        connection: Connection | None = None
        while not self.ended.is_set():
            try:
                if connection is None or connection.is_closed():
                    connection = await connect(self._dsn, application_name="fleet")
                    await register(connection, [self._report(pod, one) for pod, one in self.workers.items()])
                if self.beating.is_set():
                    async with asyncio.timeout(30):
                        await beat(connection, [self._report(pod, one) for pod, one in self.workers.items()])
            except (FlowWorkerError, OSError, TimeoutError):
                connection = None
            await asyncio.to_thread(self.ended.wait, BEAT)
        if connection is not None:
            await connection.close()

    def _report(self, pod: str, worker_id: UUID) -> Report:
        return reported(worker_id, kind=SourceKind.QUEUE, slug="mail", pod_uid=pod, namespace="shop", flowworker="mail")


@asynccontextmanager
async def a_fleet(dsn: str, *pods: str) -> AsyncGenerator[Fleet]:
    """Workers at work."""
    fleet = Fleet(dsn, *pods)
    thread = threading.Thread(target=fleet.run, name="fleet")
    thread.start()
    try:
        yield fleet
    finally:
        fleet.ended.set()
        await asyncio.to_thread(thread.join)


def states(observer: Observer) -> dict[str, WorkerState]:
    reading = observer.databases.reading(MAIL.key)
    return {} if reading is None else {pod: one.state for pod, one in reading.reports.items()}


async def marked(owner: Connection) -> set[str]:
    rows = await owner.fetch("SELECT pod_uid FROM flowworker.workers WHERE state = 'lost'")
    return {row["pod_uid"] for row in rows}


async def all_run(observer: Observer, *pods: str) -> None:
    await until(lambda: states(observer) == dict.fromkeys(pods, WorkerState.RUNNING), f"{pods} run")


async def test_a_silent_worker_is_lost_within_20_s_and_a_jump_of_the_clock_marks_none_lost(
    observer: Observer, database: Database, owner: Connection
) -> None:
    async with a_fleet(database.worker_dsn, "alive"):
        observer.watch(database.worker_dsn, MAIL)
        await report(owner, kind="queue", slug="mail", flowworker="mail", pod_uid="silent", in_flight=3)
        began = time.monotonic()
        await all_run(observer, "alive", "silent")
        with time_machine.travel(datetime.now(UTC) + timedelta(days=1), tick=True):
            await until(lambda: states(observer).get("silent") is WorkerState.LOST, "the silent worker is lost")
            assert time.monotonic() - began < LOST_WITHIN
            await observer.reads(MAIL)
        assert states(observer) == {"alive": WorkerState.RUNNING, "silent": WorkerState.LOST}
        assert await marked(owner) == {"silent"}
        reading = observer.databases.reading(MAIL.key)
        assert reading is not None
        assert reading.demand is not None
        assert reading.demand.in_flight == 0


async def test_a_worker_is_not_lost_in_the_moment_after_the_lock_of_its_row(
    observer: Observer, database: Database, owner: Connection
) -> None:
    observer.watch(database.worker_dsn, MAIL)
    for pod in ("locked", "silent"):
        await report(owner, kind="queue", slug="mail", flowworker="mail", pod_uid=pod)
    await all_run(observer, "locked", "silent")
    other = await database.connect()
    async with other.transaction():
        await other.execute("SELECT FROM flowworker.workers WHERE pod_uid = 'locked' FOR NO KEY UPDATE")
        await until(lambda: states(observer).get("silent") is WorkerState.LOST, "the silent worker is lost")
        assert await marked(owner) == {"silent"}
        freed = time.monotonic()
    await until(lambda: states(observer).get("locked") is WorkerState.LOST, "the other one is lost, too")
    assert time.monotonic() - freed >= GRACE_AFTER_LOCK
    await other.close()


@pytest.mark.parametrize("weather", [Weather.HELD, Weather.REFUSED])
async def test_an_outage_marks_no_worker_lost(
    observer: Observer, database: Database, owner: Connection, weather: Weather
) -> None:
    async with Proxy(database.server.port) as proxy:
        dsn = proxy.dsn(database.worker_dsn)
        async with a_fleet(dsn, "one", "two"):
            observer.watch(dsn, MAIL)
            await all_run(observer, "one", "two")
            proxy.weather = weather
            await hold_for(DEATH)
            proxy.weather = Weather.CLEAR
            await observer.reads(MAIL)
            await all_run(observer, "one", "two")
            assert await marked(owner) == set()
        await observer.databases.close()


async def test_an_operator_that_was_frozen_with_all_workers_marks_none_lost(
    observer: Observer, database: Database, owner: Connection
) -> None:
    async with a_fleet(database.worker_dsn, "one") as fleet:
        observer.watch(database.worker_dsn, MAIL)
        await all_run(observer, "one")
        fleet.beating.clear()
        time.sleep(DEATH)  # noqa: ASYNC251 (a frozen loop is what is tested)
        await observer.reads(MAIL)
        fleet.beating.set()
        for _ in range(2):
            await observer.reads(MAIL)
        assert states(observer) == {"one": WorkerState.RUNNING}
        assert await marked(owner) == set()


async def test_a_slow_database_marks_no_worker_lost(observer: Observer, database: Database, owner: Connection) -> None:
    async with Proxy(database.server.port) as proxy:
        async with a_fleet(database.worker_dsn, "one") as fleet:
            observer.watch(proxy.dsn(database.worker_dsn), MAIL)
            await all_run(observer, "one")
            proxy.latency = 3.0
            fleet.beating.clear()
            await hold_for(DEATH)
            assert await marked(owner) == set()
            fleet.beating.set()
        await observer.databases.close()


async def test_a_role_that_may_not_mark_a_worker_lost_still_knows_it_is_and_one_short_line_says_so(
    observer: Observer,
    database: Database,
    owner: Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(watcher, "LINES", RateLimit(burst=1, per_second=0))
    await owner.execute("REVOKE UPDATE ON flowworker.workers FROM flowworker_worker")
    slug = "\x1b[2J" + "mail\n" * 12_000
    await report(owner, kind="queue", slug=slug, flowworker="mail", pod_uid="silent")
    observer.watch(database.worker_dsn, MAIL)
    await until(lambda: states(observer) == {"silent": WorkerState.LOST}, "it is lost for the operator")
    assert await marked(owner) == set()
    for _ in range(2):
        await observer.reads(MAIL)
    (line,) = (record.getMessage() for record in caplog.records if record.name == watcher.__name__)
    assert "could not be marked lost: permission denied" in line
    assert line.isprintable()
    assert len(line) <= watcher.LONGEST_LINE
