"""One of the heartbeat's two connections is cut off, and the other one stands in for it."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import pytest
from testkit.support.proxy import Proxy, Weather
from testkit.support.waiting import until
from tests.conftest import Database
from tests.integration.runtime.conftest import World
from tests.integration.sources.world import report

from flowworker.database import heartbeat
from flowworker.database.heartbeat import Look
from flowworker.database.link import Link
from flowworker.database.queue_jobs import JobFence
from flowworker.database.records import SourceKind
from flowworker.definition.queue import Queue
from flowworker.errors import DatabaseUnavailableError
from flowworker.runtime.heartbeat.database import DatabaseHeartbeat

MINE = report(uuid4(), kind=SourceKind.QUEUE, slug="lent")
TIMEOUT = 1.0

CANCELLED = """
CREATE FUNCTION public.cancel() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'canceling statement due to user request' USING ERRCODE = 'query_canceled'; END $$;
CREATE TRIGGER cancel BEFORE INSERT OR UPDATE ON flowworker.workers FOR EACH STATEMENT
WHEN (current_setting('application_name') = 'cancelled') EXECUTE FUNCTION public.cancel();
"""
"""Statements of one session are cancelled, as by a person who looks for slow ones."""


@dataclass
class Both:
    """Two connections, each through a proxy of its own."""

    beat: Proxy
    other: Proxy
    port: DatabaseHeartbeat


@pytest.fixture
async def both(database: Database) -> AsyncIterator[Both]:
    async with Proxy(database.server.port) as first, Proxy(database.server.port) as second:
        beat, other = (
            Link(proxy.dsn(database.worker_dsn), application_name="test", timeout=TIMEOUT) for proxy in (first, second)
        )
        port = DatabaseHeartbeat(beat=beat, other=other, lends=True)
        await port.register([MINE])
        await port.beat([MINE], Look())
        yield Both(first, second, port)
        await port.close()


@pytest.mark.parametrize("weather", [Weather.SWALLOWED, Weather.REFUSED])
async def test_the_heart_beats_though_its_connection_is_cut_off(both: Both, weather: Weather) -> None:
    both.beat.weather = weather
    await both.port.beat([MINE], Look())
    began = time.monotonic()
    for _ in range(5):  # nothing waits for the broken one any more
        await both.port.beat([MINE], Look())
    assert time.monotonic() - began < TIMEOUT
    begun = both.beat.begun
    both.beat.weather = Weather.CLEAR
    await until(lambda: both.beat.begun > begun, "the next heartbeat begins")
    seen = both.beat.begun

    async def beaten() -> bool:
        await both.port.beat([MINE], Look())
        return both.beat.begun > seen + 1

    await until(beaten, "a heartbeat after it")


async def test_the_heart_beats_though_its_statements_are_cancelled_again_and_again(
    world: World, database: Database
) -> None:
    await world.owner.execute(CANCELLED)
    beat, other = (Link(database.worker_dsn, application_name=name) for name in ("cancelled", "spared"))
    port = DatabaseHeartbeat(beat=beat, other=other, lends=True)
    await port.register([MINE])
    before = (await port.beat([MINE], Look())).at
    with pytest.raises(asyncpg.QueryCanceledError):
        await beat.run(lambda connection: heartbeat.beat(connection, [MINE]))
    assert (await port.beat([MINE], Look())).own[MINE.worker_id].written
    assert (await world.worker_row(MINE.worker_id))["reported_at"] > before
    await port.close()


async def test_leases_are_extended_though_their_connection_is_cut_off(world: World, both: Both) -> None:
    queue = Queue("lent")
    await world.create(queue)
    msg_id = await world.send(queue, 1)
    enqueued_at = await world.owner.fetchval("SELECT enqueued_at FROM pgmq.read('lent', 1, 1)")
    both.other.weather = Weather.SWALLOWED
    fence = JobFence(msg_id=msg_id, read_count=1, enqueued_at=enqueued_at)
    assert await both.port.extend_jobs([("lent", fence)]) == []
    left = await world.owner.fetchval("SELECT extract(epoch FROM vt - clock_timestamp())::float8 FROM pgmq.q_lent")
    assert left > 10


async def test_without_both_it_is_an_outage(both: Both) -> None:
    both.beat.weather = both.other.weather = Weather.REFUSED
    for _ in range(2):
        with pytest.raises(DatabaseUnavailableError):
            await both.port.beat([MINE], Look())
