"""What a heartbeat costs the server, in a small fleet and in a large one."""

from collections.abc import AsyncIterator
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from tests.conftest import Database, create_database, drop_database
from tests.integration.sources.world import report

from flowworker.database.connection import Connection
from flowworker.database.heartbeat import SAMPLE, Report, beat, beat_statement, register
from flowworker.database.local_server import LocalServer
from flowworker.database.records import SourceKind

FLEETS = (10, 1000)

MOST = 1.3
"""A heartbeat among 1,000 peers may cost this many times what it costs among 10."""

ROUNDS = 150

FILL = """
    INSERT INTO flowworker.workers (worker_id, boot_id, kind, slug, worker_name, version, state, slots)
    SELECT gen_random_uuid(), gen_random_uuid(), 'flow', 'crowd', 'peer', '0', 'running', 10
    FROM generate_series(1, $1::integer)
"""
BEAT = "UPDATE flowworker.workers SET in_flight = in_flight + 1, reported_at = clock_timestamp()"
GONE = """
    INSERT INTO flowworker.workers (worker_id, boot_id, kind, slug, worker_name, version, state, slots, ended_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'flow', 'crowd', 'peer', '0', 'stopped', 10, clock_timestamp()
    FROM generate_series(1, 2000)
"""


class Fleet:
    """A database full of peers, and one worker that beats."""

    def __init__(self, database: Database, owner: Connection) -> None:
        self.database = database
        self.owner = owner
        self.mine: Report = report(uuid4(), kind=SourceKind.FLOW, slug="crowd")

    async def fill(self, peers: int) -> None:
        await self.owner.execute(FILL, peers)
        await self.owner.execute(GONE)
        await register(self.owner, [self.mine])
        for _ in range(5):
            await self.owner.execute(BEAT)
        await self.owner.execute("VACUUM ANALYZE flowworker.workers")
        for _ in range(2):  # what a fleet leaves between two vacuums
            await self.owner.execute(BEAT)

    async def explain(self) -> dict[str, Any]:
        """Beat once; returns how the server did it."""
        statement = beat_statement(with_pgflow=True, health=True, stamps=False, revive=False)
        payload = orjson.dumps([{**_values(self.mine)}])
        since = await self.owner.fetchval("SELECT clock_timestamp() - interval '1 hour'")
        text = await self.owner.fetchval(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", payload, since, uuid4(), SAMPLE
        )
        return orjson.loads(text.encode() if isinstance(text, str) else text)[0]


def _values(mine: Report) -> dict[str, Any]:
    return {name: getattr(mine, name) for name in mine.__slots__}


@pytest.fixture
async def fleets(postgres: LocalServer, template: str) -> AsyncIterator[dict[int, Fleet]]:
    made: dict[int, Fleet] = {}
    for peers in FLEETS:
        database = await create_database(postgres, f"fleet_{peers}_{uuid4().hex[:8]}", template)
        made[peers] = Fleet(database, await database.connect())
        await made[peers].fill(peers)
    yield made
    for fleet in made.values():
        await fleet.owner.close()
        await drop_database(fleet.database)


async def test_a_beat_among_1000_peers_costs_hardly_more_than_among_10(fleets: dict[int, Fleet]) -> None:
    times: dict[int, list[float]] = {peers: [] for peers in FLEETS}
    for number in range(ROUNDS):
        for peers in FLEETS if number % 2 else FLEETS[::-1]:
            plan = await fleets[peers].explain()
            times[peers].append(plan["Execution Time"])
    small, large = (median(times[peers]) for peers in FLEETS)
    print(f"{small:.3f} ms among 10, {large:.3f} ms among 1,000")
    assert large <= MOST * small, f"{small:.3f} ms among 10, {large:.3f} ms among 1,000"


async def test_a_beat_reads_the_fleet_by_its_index_and_updates_in_place(fleets: dict[int, Fleet]) -> None:
    fleet = fleets[1000]
    plan = orjson.dumps((await fleet.explain())["Plan"]).decode()
    assert "workers_living" in plan
    assert '"Node Type":"Seq Scan"' not in plan
    await fleet.owner.execute("SELECT pg_stat_force_next_flush()")
    before = await _updates(fleet.owner)
    for _ in range(50):
        await beat(fleet.owner, [fleet.mine])
    await fleet.owner.execute("SELECT pg_stat_force_next_flush()")
    updates, hot = (after - then for after, then in zip(await _updates(fleet.owner), before, strict=True))
    assert updates >= 50
    assert hot >= 0.9 * updates


async def _updates(connection: Connection) -> tuple[int, int]:
    row = await connection.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'flowworker.workers'::regclass"
    )
    assert row is not None
    return row[0], row[1]


async def test_a_beat_for_200_flows_sees_some_of_each(fleets: dict[int, Fleet]) -> None:
    owner = fleets[10].owner
    mine = [report(uuid4(), kind=SourceKind.QUEUE, slug=f"q{n}", boot_id=UUID(int=1)) for n in range(200)]
    await register(owner, mine)
    found = await beat(owner, mine)
    assert {crew.looked_at for crew in found.crews.values()} == {1}
