"""Reports, heartbeats, drains and the end of workers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from tests.conftest import Database
from tests.integration.sources.world import World, report

from flowworker.database.capabilities import detect
from flowworker.database.connection import Connection
from flowworker.database.heartbeat import (
    HEALTH_COLUMNS,
    LONGEST_ERROR,
    SAMPLE,
    Drain,
    Holder,
    Look,
    beat,
    mark_stopped,
    prune,
    register,
)
from flowworker.database.install import install
from flowworker.database.packaged import Component
from flowworker.database.records import SourceKind
from flowworker.option_change import OptionChange

FLOW, QUEUE = SourceKind.FLOW, SourceKind.QUEUE


@pytest.fixture
async def pulse(world: World) -> AsyncIterator[Connection]:
    connection = await world.database.connect_as_worker()
    yield connection
    await connection.close()


async def test_one_statement_beats_for_all_workers_of_a_process(world: World, pulse: Connection) -> None:
    boot = uuid4()
    reports = [
        report(uuid4(), kind=FLOW, slug="a", boot_id=boot, state="starting"),
        report(uuid4(), kind=FLOW, slug="b", boot_id=boot),
        report(uuid4(), kind=QUEUE, slug="c", boot_id=boot),
    ]
    await register(pulse, reports)
    queries: list[str] = []
    pulse.add_query_logger(lambda query: queries.append(query.query))
    found = await beat(pulse, [report(r.worker_id, kind=r.kind, slug=r.slug, boot_id=boot) for r in reports])
    await asyncio.sleep(0)
    assert len(queries) == 1
    assert [found.own[r.worker_id].state for r in reports] == ["running"] * 3
    assert set(found.crews) == {(FLOW, "a"), (FLOW, "b"), (QUEUE, "c")}
    registered = await world.owner.fetch("SELECT queue_name, function_name FROM pgflow.workers ORDER BY 1")
    assert [tuple(row) for row in registered] == [("a", "py:a"), ("b", "py:b")]


async def test_a_beat_writes_the_report(world: World, pulse: Connection) -> None:
    worker_id = uuid4()
    await register(pulse, [report(worker_id, kind=FLOW, slug="a", pod_name="p-1", revision="r", namespace="n")])
    before = (await world.peer(worker_id)).beat
    await beat(
        pulse,
        [
            report(
                worker_id, kind=FLOW, slug="a", state="draining", in_flight=3, slots=4, completed=5, failed=6,
                last_error="x\0" * LONGEST_ERROR,
            )
        ],
    )  # fmt: skip
    row = await world.owner.fetchrow("SELECT * FROM flowworker.workers")
    assert row is not None
    assert (row["state"], row["in_flight"], row["slots"], row["completed"], row["failed"]) == ("draining", 3, 4, 5, 6)
    assert (row["pod_name"], row["revision"], row["namespace"]) == ("p-1", "r", "n")
    assert row["last_error"] == "x" * LONGEST_ERROR
    assert row["reported_at"] > before


async def test_the_silent_are_the_living_of_the_same_flow_or_queue_that_have_not_reported_since(
    world: World, pulse: Connection
) -> None:
    me, other, stopped, elsewhere, queue, fresh = (uuid4() for _ in range(6))
    mine = report(me, kind=FLOW, slug="a")
    await register(pulse, [report(other, kind=FLOW, slug="a", pod_uid="pod")])
    await register(pulse, [report(stopped, kind=FLOW, slug="a", state="stopped")])
    await register(pulse, [report(elsewhere, kind=FLOW, slug="b"), report(queue, kind=QUEUE, slug="a")])
    since = (await register(pulse, [mine])).at
    await register(pulse, [report(fresh, kind=FLOW, slug="a")])
    crew = (await beat(pulse, [mine], look=Look(since=since))).crews[FLOW, "a"]
    assert crew.silent == [await world.peer(other)]
    assert crew.looked_at == 3  # other, fresh and me
    assert (await beat(pulse, [mine])).crews[FLOW, "a"].silent == []


async def test_a_beat_looks_at_a_few_wherever_the_random_id_falls(world: World, pulse: Connection) -> None:
    ids = sorted(uuid4() for _ in range(2 * SAMPLE))
    await register(pulse, [report(id_, kind=QUEUE, slug="a") for id_ in ids])
    mine = report(uuid4(), kind=QUEUE, slug="b")
    watching = report(uuid4(), kind=QUEUE, slug="a", boot_id=mine.boot_id)
    now = (await register(pulse, [mine, watching])).at
    ids.append(watching.worker_id)
    for after in (UUID(int=0), ids[3], ids[-2], UUID(int=2**128 - 1)):
        crew = (await beat(pulse, [mine, watching], look=Look(since=now, after=after))).crews[QUEUE, "a"]
        ids.sort()
        following = [id_ for id_ in ids if id_ > after] + [id_ for id_ in ids if id_ <= after]
        assert [peer.worker_id for peer in crew.silent] == [
            id_ for id_ in following[:SAMPLE] if id_ != watching.worker_id
        ]
        assert crew.looked_at == SAMPLE


async def test_a_beat_says_when_a_worker_was_last_lost_or_stopped(world: World, pulse: Connection) -> None:
    mine, other, third = (report(uuid4(), kind=QUEUE, slug="a") for _ in range(3))
    await register(pulse, [other])
    await register(pulse, [third])
    assert (await register(pulse, [mine])).crews[QUEUE, "a"].last_end is None
    await world.owner.execute("UPDATE flowworker.workers SET state = 'lost' WHERE worker_id = $1", other.worker_id)
    first = (await beat(pulse, [mine])).crews[QUEUE, "a"].last_end
    assert first is not None
    await mark_stopped(pulse, [third], await detect(pulse))
    second = (await beat(pulse, [mine])).crews[QUEUE, "a"].last_end
    assert second is not None
    assert second > first
    await register(pulse, [other])  # lives again
    assert await world.owner.fetchval("SELECT count(*) FROM flowworker.workers WHERE ended_at IS NOT NULL") == 1


@pytest.mark.parametrize("size", [2 * SAMPLE, 6 * SAMPLE])
async def test_as_many_see_the_end_of_a_peer_whatever_the_size_of_the_fleet(
    world: World, pulse: Connection, size: int
) -> None:
    reports = [report(uuid4(), kind=QUEUE, slug="a") for _ in range(size)]
    for one in reports:
        await register(pulse, [one])
    gone, *alive = reports
    await mark_stopped(pulse, [gone], await detect(pulse))
    crews = [
        (await beat(pulse, [one], look=Look(after=one.worker_id))).crews[QUEUE, "a"]
        for one in alive  # as random ids would be, but evenly spread
    ]
    assert len({crew.last_end for crew in crews}) == 1
    assert sum(crew.saw_end for crew in crews) == SAMPLE


async def test_all_of_a_small_fleet_see_the_end_of_a_peer(world: World, pulse: Connection) -> None:
    reports = [report(uuid4(), kind=QUEUE, slug="a") for _ in range(SAMPLE)]
    for one in reports:
        await register(pulse, [one])
    gone, *alive = reports
    await mark_stopped(pulse, [gone], await detect(pulse))
    for one in alive:
        assert (await beat(pulse, [one], look=Look(after=uuid4()))).crews[QUEUE, "a"].saw_end


async def test_a_beat_writes_how_well_the_worker_is(world: World, pulse: Connection) -> None:
    worker_id, now = uuid4(), await world.now()
    await register(pulse, [report(worker_id, kind=QUEUE, slug="a")])
    await beat(
        pulse, [report(worker_id, kind=QUEUE, slug="a", begun_at=now, unwritten_for=1.5, unclaimed_for=2.5, doubts=3)]
    )
    row = await world.owner.fetchrow("SELECT begun_at, unwritten_for, unclaimed_for, doubts FROM flowworker.workers")
    assert row is not None
    assert tuple(row) == (now, 1.5, 2.5, 3)


async def test_a_schema_from_before_is_enough(world: World, pulse: Connection) -> None:
    await world.owner.execute(
        """DROP TRIGGER note_end ON flowworker.workers; DROP INDEX flowworker.workers_living;
           ALTER TABLE flowworker.workers DROP begun_at, DROP unwritten_for, DROP unclaimed_for, DROP doubts,
               DROP network_namespace, DROP ended_at, DROP option_changes"""
    )
    assert not (await detect(pulse)).own_columns >= HEALTH_COLUMNS
    mine, other = (report(uuid4(), kind=FLOW, slug="a", network_namespace="n") for _ in range(2))
    await register(pulse, [other], health=False)
    now = (await register(pulse, [mine], health=False)).at
    crew = (await beat(pulse, [mine], look=Look(since=now), health=False)).crews[FLOW, "a"]
    assert crew.silent == [await world.peer(other.worker_id)]
    assert crew.last_end is None


async def test_an_id_that_belongs_to_another_process_is_left_to_it(world: World, pulse: Connection) -> None:
    worker_id = uuid4()
    theirs, ours = (report(worker_id, kind=QUEUE, slug="a", boot_id=uuid4()) for _ in range(2))
    await register(pulse, [theirs])
    before = await world.peer(worker_id)
    own = (await register(pulse, [ours])).own[worker_id]
    assert own.holder == Holder(boot_id=theirs.boot_id, beat=before.beat)
    assert own.lost
    assert (await beat(pulse, [ours])).own[worker_id].lost
    assert await world.peer(worker_id) == before


@pytest.mark.parametrize("state", ["lost", "stopped"])
async def test_a_beat_never_revives(world: World, pulse: Connection, state: str) -> None:
    worker_id = uuid4()
    await register(pulse, [report(worker_id, kind=FLOW, slug="a")])
    await world.owner.execute("UPDATE flowworker.workers SET state = $1", state)
    before = await world.owner.fetchval("SELECT last_heartbeat_at FROM pgflow.workers")
    found = await beat(pulse, [report(worker_id, kind=FLOW, slug="a")])
    assert (found.own[worker_id].state, found.own[worker_id].lost) == (state, state == "lost")
    assert await world.owner.fetchval("SELECT state FROM flowworker.workers") == state
    assert await world.owner.fetchval("SELECT last_heartbeat_at FROM pgflow.workers") == before


async def test_a_new_incarnation_takes_over_an_id_that_has_ended(world: World, pulse: Connection) -> None:
    worker_id, boot = uuid4(), uuid4()
    await register(pulse, [report(worker_id, kind=FLOW, slug="a")])
    await world.owner.execute("UPDATE flowworker.workers SET state = 'lost'")
    found = await register(pulse, [report(worker_id, kind=FLOW, slug="a", boot_id=boot)])
    assert found.own[worker_id].state == "running"
    assert (await world.peer(worker_id)).boot_id == boot


async def test_rows_that_were_pruned_come_back_with_the_next_beat(world: World, pulse: Connection) -> None:
    worker_id = uuid4()
    await register(pulse, [report(worker_id, kind=FLOW, slug="a")])
    await world.owner.execute("DELETE FROM flowworker.workers")
    await world.owner.execute("DELETE FROM pgflow.workers")
    assert (await beat(pulse, [report(worker_id, kind=FLOW, slug="a")])).own[worker_id].state == "running"
    assert await world.owner.fetchval("SELECT count(*) FROM pgflow.workers") == 1


async def test_a_predecessor_in_the_same_pod_is_dead_at_once_when_its_process_is_proven_gone(
    world: World, pulse: Connection
) -> None:
    gone, alive, elsewhere = (uuid4() for _ in range(3))
    boot = uuid4()
    plain: dict[str, Any] = {"kind": FLOW, "slug": "a", "pod_uid": "pod", "network_namespace": "here"}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("lost", {"boot_id": gone}),
        ("running", {"boot_id": alive}),
        ("running", {"boot_id": boot}),
        ("running", {"boot_id": gone, "pod_uid": "pod-2"}),
        ("running", {"boot_id": gone, "slug": "b"}),
        ("running", {"boot_id": elsewhere, "network_namespace": "elsewhere"}),
        ("running", {"boot_id": elsewhere, "network_namespace": None}),
    ]
    ids = [uuid4() for _ in cases]
    for worker_id, (_, changes) in zip(ids, cases, strict=True):
        await register(pulse, [report(worker_id, **plain | changes)])
    await register(pulse, [report(uuid4(), **plain, boot_id=boot)], is_gone=lambda one: one in {gone, elsewhere})
    assert [(await world.peer(id_)).state for id_ in ids] == [state for state, _ in cases]


async def test_an_id_is_taken_over_at_once_from_a_process_that_is_proven_gone(world: World, pulse: Connection) -> None:
    worker_id, boot = uuid4(), uuid4()
    plain: dict[str, Any] = {"kind": QUEUE, "slug": "a", "network_namespace": "here"}
    await register(pulse, [report(worker_id, **plain)])
    found = await register(pulse, [report(worker_id, **plain, boot_id=boot)], is_gone=lambda _: True)
    assert found.own[worker_id].holder is None
    assert (await world.peer(worker_id)).boot_id == boot


async def test_deprecation_by_a_foreign_tool_is_reported(world: World, pulse: Connection) -> None:
    worker_id = uuid4()
    await register(pulse, [report(worker_id, kind=FLOW, slug="a")])
    await world.owner.execute("UPDATE pgflow.workers SET deprecated_at = now()")
    assert (await beat(pulse, [report(worker_id, kind=FLOW, slug="a")])).own[worker_id].deprecated


async def test_drains_name_a_worker_or_a_pod_and_lapse(world: World, pulse: Connection) -> None:
    worker_id = uuid4()
    mine = report(worker_id, kind=QUEUE, slug="a", pod_uid="pod")
    assert (await register(pulse, [mine])).own[worker_id].drain is None
    now = await world.now()
    for target, minutes in (("pod", 1), (str(worker_id), 2), ("other", 9)):
        await world.owner.execute(
            "INSERT INTO flowworker.drains (target, until, reason) VALUES ($1, $2, $3)",
            target, now + timedelta(minutes=minutes), f"for {target}",
        )  # fmt: skip
    expected = Drain(until=now + timedelta(minutes=2), reason=f"for {worker_id}")
    assert (await beat(pulse, [mine])).own[worker_id].drain == expected
    await world.owner.execute("UPDATE flowworker.drains SET until = clock_timestamp() WHERE target <> 'other'")
    assert (await beat(pulse, [mine])).own[worker_id].drain is None


async def test_a_drain_is_known_before_the_first_claim(world: World, pulse: Connection) -> None:
    await world.owner.execute("INSERT INTO flowworker.drains VALUES ('pod', now() + interval '1 minute', 'shrink')")
    worker_id = uuid4()
    found = await register(pulse, [report(worker_id, kind=QUEUE, slug="a", pod_uid="pod")])
    drain = found.own[worker_id].drain
    assert drain is not None
    assert drain.reason == "shrink"


@pytest.mark.parametrize(
    ("catalogue", "column"), [("0.8", "deprecated_at"), ("0.10", "stopped_at")], indirect=["catalogue"]
)
async def test_the_end_of_a_worker_is_written_where_the_core_has_a_place(catalogue: Database, column: str) -> None:
    connection = await catalogue.connect_as_worker()
    worker_id = uuid4()
    first = report(worker_id, kind=FLOW, slug="a", in_flight=2)
    await register(connection, [first])
    await mark_stopped(connection, [replace(first, completed=5, failed=1)], await detect(connection))
    row = await connection.fetchrow("SELECT state, in_flight, completed, failed FROM flowworker.workers")
    assert row is not None
    assert tuple(row) == ("stopped", 0, 5, 1)
    assert await connection.fetchval(f"SELECT {column} IS NOT NULL FROM pgflow.workers")
    await connection.close()


async def test_a_database_with_queues_only_needs_no_pgflow(empty_database: Database) -> None:
    owner = await empty_database.connect()
    await owner.execute("CREATE SCHEMA pgmq")
    await install(owner, only=Component.FLOWWORKER)
    worker_id = uuid4()
    only = report(worker_id, kind=QUEUE, slug="a")
    found = await register(owner, [only])
    assert found.own[worker_id].state == "running"
    await mark_stopped(owner, [only], await detect(owner))
    assert await owner.fetchval("SELECT state FROM flowworker.workers") == "stopped"
    await owner.close()


async def test_prune_deletes_workers_and_drains_that_are_long_over(world: World, pulse: Connection) -> None:
    ages = {"running": (6, 8), "stopped": (0.5, 2), "lost": (0.5, 2)}
    for state, days in ages.items():
        for age in days:
            worker_id = uuid4()
            await register(pulse, [report(worker_id, kind=QUEUE, slug="a", state=state)])
            await world.owner.execute(
                "UPDATE flowworker.workers SET reported_at = reported_at - $2::interval WHERE worker_id = $1",
                worker_id, timedelta(days=age),
            )  # fmt: skip
    await world.owner.execute("INSERT INTO flowworker.drains VALUES ('old', now() - interval '2 days', 'x')")
    await world.owner.execute("INSERT INTO flowworker.drains VALUES ('new', now() - interval '1 hour', 'x')")
    assert await prune(pulse) == (3, 1)
    assert await prune(pulse) == (0, 0)


async def test_beats_of_two_processes_at_once_do_not_deadlock(world: World) -> None:
    ids = [uuid4() for _ in range(20)]
    connections = [await world.database.connect_as_worker() for _ in range(2)]
    reports = [report(id_, kind=FLOW, slug="a") for id_ in ids]
    for _ in range(20):
        await asyncio.gather(beat(connections[0], reports), beat(connections[1], reports[::-1]))
    for connection in connections:
        await connection.close()


async def test_a_report_says_which_options_the_database_has_otherwise(world: World, pulse: Connection) -> None:
    change = OptionChange(step="only", option="timeout", code=None, database=40)
    flow, same, queue = (uuid4() for _ in range(3))
    await register(
        pulse,
        [
            report(flow, kind=FLOW, slug="a", option_changes=[change]),
            report(same, kind=FLOW, slug="a", option_changes=[]),
            report(queue, kind=QUEUE, slug="b"),
        ],
    )
    rows = await world.owner.fetch("SELECT worker_id, option_changes::text AS changes FROM flowworker.workers")
    found = {row["worker_id"]: row["changes"] and orjson.loads(row["changes"]) for row in rows}
    assert found == {flow: [asdict(change)], same: [], queue: None}
