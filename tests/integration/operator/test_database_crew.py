"""Which workers a probe reads: all that are alive, one's own and the newest first, and few of those that have ended."""

from datetime import timedelta

import pytest
from tests.conftest import Database
from tests.integration.operator.observer import asking, read, report, subject
from tests.integration.operator.test_database_plan import blocks, explain, nodes

from flowworker.database import probe
from flowworker.database.connection import Connection
from flowworker.database.records import SourceKind
from flowworker_operator.database import Subject
from flowworker_operator.database.interpret import target_of
from flowworker_operator.domain.snapshot import WorkerState

MAIL = subject("mail", "queue")

FILL = """
    INSERT INTO flowworker.workers (
        worker_id, boot_id, kind, slug, worker_name, namespace, flowworker, pod_uid, version, state, slots, started_at,
        reported_at, longest_timeout
    )
    SELECT
        gen_random_uuid(), gen_random_uuid(), 'queue', $1::text, 'w', $2::text, $1::text, $3::text || '-' || n, '0',
        $3::text, 1, now() - interval '1 day' + n * interval '1 second',
        now() - $4::interval - (9999 - n) * interval '1 millisecond', 90
    FROM generate_series(1, $5::int) AS n
"""

INDEXED = {"Index Scan", "Index Only Scan"}


@pytest.fixture
async def mail(database: Database, owner: Connection) -> Database:
    """A database with one queue."""
    await owner.execute("SELECT pgmq.create('mail')")
    return database


async def fill(
    owner: Connection, count: int, state: str = "running", *, ago: timedelta = timedelta(), **where: str
) -> None:
    """Workers of one FlowWorker, each a second younger than the one before, in pods `state-1`, `state-2` and so on."""
    await owner.execute(FILL, where.get("slug", "mail"), where.get("namespace", "shop"), state, ago, count)


async def pods(database: Database, one: Subject = MAIL) -> list[str | None]:
    """The pods of all workers that are read, in the order of the answer."""
    async with asking(database, one) as asker:
        (sample,) = await asker.samples()
        return [row.pod_uid for row in sample.workers]


async def test_of_ended_workers_the_latest_are_read(mail: Database, owner: Connection) -> None:
    await fill(owner, 500, "stopped")
    assert await pods(mail) == [f"stopped-{number}" for number in range(500, 500 - probe.ENDED, -1)]


@pytest.mark.parametrize("state", ["stopped", "lost"])
async def test_a_worker_that_ended_long_ago_is_read_no_more(mail: Database, owner: Connection, state: str) -> None:
    await fill(owner, 2, state, ago=timedelta(minutes=11))
    assert await pods(mail) == []
    await owner.execute("UPDATE flowworker.workers SET reported_at = now() - interval '9 minutes' WHERE pod_uid ~ '1$'")
    assert (await read(mail, MAIL)).reports[f"{state}-1"].state is WorkerState(state)


async def test_an_old_worker_that_ends_is_read_although_younger_ones_ended_before(
    mail: Database, owner: Connection
) -> None:
    await fill(owner, 200, "stopped", ago=timedelta(seconds=30))
    await report(owner, kind=SourceKind.QUEUE, slug="mail", flowworker="mail", pod_uid="old", state="lost")
    await owner.execute("UPDATE flowworker.workers SET started_at = now() - interval '3 days' WHERE pod_uid = 'old'")
    assert (await pods(mail))[0] == "old"


async def test_ended_workers_take_no_place_of_the_living(mail: Database, owner: Connection) -> None:
    await fill(owner, 100, "stopped")
    await fill(owner, 600)
    found = await pods(mail)
    assert found[:600] == [f"running-{number}" for number in range(600, 0, -1)], "the newest first"
    assert len(found) == 600 + probe.ENDED


async def test_where_not_all_can_be_read_one_s_own_come_first_and_the_newest_of_them(
    mail: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "CREW", 4)
    await fill(owner, 3)
    await fill(owner, 5, "draining", namespace="elsewhere")
    await report(owner, kind=SourceKind.QUEUE, slug="mail", namespace=None, flowworker=None, pod_uid="by hand")
    assert await pods(mail) == ["running-3", "running-2", "running-1", "by hand"]
    await fill(owner, 5, "starting")
    assert await pods(mail) == ["starting-5", "starting-4", "starting-3", "running-3"]


async def test_as_many_are_read_as_may_run_while_a_thousand_are_replaced(mail: Database, owner: Connection) -> None:
    await fill(owner, 1000)
    await fill(owner, 1000, "starting")
    assert len(set(await pods(mail))) == 2000


async def test_living_workers_of_what_a_flowworker_served_before_are_read(mail: Database, owner: Connection) -> None:
    await fill(owner, probe.ENDED + 1, slug="letters")
    await owner.execute("UPDATE flowworker.workers SET flowworker = 'mail'")
    assert len(await pods(mail)) == probe.ENDED + 1


async def test_how_long_a_job_may_take_is_known_while_no_worker_runs(mail: Database, owner: Connection) -> None:
    await fill(owner, 500, "stopped", ago=timedelta(hours=3))
    found = await read(mail, MAIL)
    assert (found.longest_timeout, dict(found.reports)) == (90, {})
    await fill(owner, 1, slug="letters")
    await owner.execute("UPDATE flowworker.workers SET flowworker = 'mail', longest_timeout = 900 WHERE slug <> 'mail'")
    assert (await read(mail, MAIL)).longest_timeout == 90, "that of another queue says nothing"


@pytest.mark.parametrize("analyzed", [False, True])
async def test_the_cost_of_many_flowworkers_follows_the_living(
    database: Database, owner: Connection, analyzed: bool
) -> None:
    slugs = [f"queue_{number}" for number in range(200)]
    await owner.execute("SELECT pgmq.create(slug) FROM unnest($1::text[]) AS slug", slugs)
    for slug in slugs:
        await fill(owner, 10, slug=slug)
        await fill(owner, 50, "stopped", ago=timedelta(hours=1), slug=slug)
    await owner.execute("UPDATE flowworker.workers SET flowworker = replace(slug, '_', '-')")
    await owner.execute("VACUUM flowworker.workers")
    if analyzed:
        await owner.execute("ANALYZE")
    subjects = [subject(slug, "queue") for slug in slugs]
    plan = await explain(database, *(target_of(one) for one in subjects))
    assert {node["Node Type"] for node in nodes(plan) if node.get("Relation Name") == "workers"} <= INDEXED
    assert blocks(plan) < 20_000
    async with asking(database, *subjects) as asker:
        assert [len(sample.workers) for sample in await asker.samples()] == [10] * 200


async def test_the_living_are_found_by_an_index_of_their_own(mail: Database, owner: Connection) -> None:
    await fill(owner, 600)
    await fill(owner, 2000, "stopped", ago=timedelta(hours=1))
    await owner.execute("ANALYZE flowworker.workers")
    plan = await explain(mail, target_of(MAIL))
    used = {node["Index Name"] for node in nodes(plan) if node.get("Relation Name") == "workers"}
    assert used == {"workers_living", "workers_owned"}
    assert blocks(plan) < probe.CREW


async def test_a_workers_health_is_read_where_the_schema_has_it(mail: Database, owner: Connection) -> None:
    async def health() -> dict[str, tuple[bool, bool, int]]:
        reports = (await read(mail, MAIL)).reports
        return {pod: (one.results_wait, one.claims_wait, one.doubts) for pod, one in reports.items()}

    columns = {"unwritten_for": "double precision", "unclaimed_for": "double precision", "doubts": "integer"}
    for column in columns:
        await owner.execute(f"ALTER TABLE flowworker.workers DROP COLUMN IF EXISTS {column}")
    for pod in ("waits", "works"):
        await report(owner, kind=SourceKind.QUEUE, slug="mail", flowworker="mail", pod_uid=pod)
    assert await health() == {"waits": (False, False, 0), "works": (False, False, 0)}
    for column, kind in columns.items():
        await owner.execute(f"ALTER TABLE flowworker.workers ADD COLUMN {column} {kind}")
    await owner.execute(
        "UPDATE flowworker.workers SET (unwritten_for, unclaimed_for, doubts) = "
        "(SELECT * FROM (VALUES (45, 50, 2)) v WHERE pod_uid = 'waits' UNION ALL "
        "SELECT 2, 3, 0 WHERE pod_uid <> 'waits')"
    )
    assert await health() == {"waits": (True, True, 2), "works": (False, False, 0)}
