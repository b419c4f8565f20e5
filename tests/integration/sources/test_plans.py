"""Hot and periodic statements read few rows after a million finished runs.

A million are there for the oldest and the newest core, whose indexes differ. Building them takes half a minute for
each, so the cores in between, whose indexes are those of the oldest, have 20,000, and statistics that say a million:
the rows that their plans then read are counted, and a scan of what is finished would read all 20,000. Compared on 0.8,
such statistics lead to the plans for a million rows, but for the choice between indexes of running tasks in two
statements, and one join with the flow's steps.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import TESTED_CORES, create_database, drop_database
from tests.integration.sources.finished_rows import FEW, MILLION, TABLES, Grown, grow
from tests.integration.sources.flows import one_step
from tests.integration.sources.world import World

from flowworker.database import flow_results, flow_tasks, probe
from flowworker.database.capabilities import Capabilities, detect
from flowworker.database.connection import Connection
from flowworker.database.identifiers import archive_table, queue_table
from flowworker.database.local_server import LocalServer
from flowworker.database.probe import Target
from flowworker.database.queue_jobs import claim_statement, extend_statement
from flowworker.database.records import SourceKind
from flowworker.database.statements import fill, load

pytestmark = [pytest.mark.xdist_group("plans"), pytest.mark.timeout(600)]

MESSAGES = 20_000
MOST = 3000
"""Rows and index entries that one statement may read; of what is finished there are at least `FEW`."""

EARLIER = datetime(2026, 1, 1, tzinfo=UTC)
EXECUTIONS = 7
"""Of one prepared statement: after five PostgreSQL chooses between a plan for the values and one for any."""

READ = """
    SELECT sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint
    FROM pg_class AS c
    LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
    WHERE coalesce(i.indrelid, c.oid) = ANY($1::text[]::regclass[])
"""
"""Rows that scans of the tables that grow have returned, and entries that those of their indexes have."""

NAMES = {
    "queue_table": queue_table("one_step"),
    "archive_table": archive_table("one_step"),
    "columns": "q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message",
    "unless_locked": "",
    "order": "q.vt",
    "ours": "'{}'::jsonb",
    "losses": "0",
    "parks": "0",
    "begun": "true",
    "by_queue": "",
    "plain_columns": "msg_id, read_ct, enqueued_at, vt, message",
}

_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database with a history, and a connection to it."""

    grown: Grown
    connection: Connection
    features: Capabilities

    @property
    def running(self) -> list[int]:
        """Messages of tasks that run."""
        return [self.grown.first + n for n in range(10)]

    @property
    def names(self) -> dict[str, str]:
        """What is filled into statements."""
        return {**NAMES, "by_queue": flow_tasks.by_queue(self.features), "error": load("client/run_error")}


Arguments = Callable[[Place], Awaitable[list[Any]]]


def given(*arguments: Any) -> Arguments:
    async def make(_: Place) -> list[Any]:
        return list(arguments)

    return make


async def fences(place: Place) -> tuple[list[Any], ...]:
    rows = await place.connection.fetch("SELECT * FROM pgflow.step_tasks WHERE status = 'started' LIMIT 10")
    return (
        [row["run_id"] for row in rows],
        [row["step_slug"] for row in rows],
        [row["task_index"] for row in rows],
        [row["attempts_count"] for row in rows],
        [row["started_at"] for row in rows],
    )


async def completing(place: Place) -> list[Any]:
    return [place.grown.worker_id, *await fences(place), [b"1"] * 10]


async def deciding(place: Place) -> list[Any]:
    return [*await completing(place), list(range(1, 11))]


async def failing(place: Place) -> list[Any]:
    ids = [place.grown.worker_id] * 10
    return ["one_step", ids, *await fences(place), ["e"] * 10, [True, False] * 5, [None] * 10]


async def releasing(place: Place) -> list[Any]:
    return [[place.grown.worker_id] * 10, *await fences(place), [1] * 10, [0.0] * 10, "channel"]


async def checking(place: Place) -> list[Any]:
    return [[place.grown.worker_id] * 10, *await fences(place)]


async def tasks(place: Place) -> list[Any]:
    return list((await fences(place))[:3])


async def ended(place: Place) -> list[Any]:
    return [(await fences(place))[0], [await place.connection.fetchval("SELECT now()")]]


async def a_run(place: Place) -> list[Any]:
    return [(await fences(place))[0][0]]


async def a_run_and_a_limit(place: Place) -> list[Any]:
    return [*await a_run(place), 100]


async def runs(place: Place) -> list[Any]:
    return ["one_step", (await fences(place))[0]]


async def delaying(place: Place) -> list[Any]:
    moments = "SELECT array_agg(vt ORDER BY msg_id) FROM pgmq.q_one_step WHERE msg_id = ANY($1)"
    return [place.running, await place.connection.fetchval(moments, place.running), [1.0] * 10]


def held(*more: Any) -> Arguments:
    """Messages that a worker holds, and more for each of them."""

    async def make(place: Place) -> list[Any]:
        return [place.running, *([one] * 10 for one in more)]

    return make


async def archiving(place: Place) -> list[Any]:
    return ["one_step", place.running]


HOT: Mapping[str, Arguments] = {
    "flow/archive": archiving,
    "flow/delay": delaying,
    "flow/ended_runs": ended,
    "flow/fail": failing,
    "flow/flow_input": a_run,
    "flow/held": checking,
    "flow/leftovers": archiving,
    "flow/look": tasks,
    "flow/next_due": given(),
    "flow/owned": lambda place: given(place.grown.worker_id, "one_step")(place),
    "flow/prolong": lambda place: given(place.running, 20.0)(place),
    "flow/release": releasing,
    "recovery/ended": given("one_step", uuid4(), 200),
    "recovery/ghosts": given("one_step", 200),
    "recovery/settle": tasks,
    "recovery/stranded": given("one_step", uuid4(), 60.0, 200, []),
    "queue/archive": held(1, EARLIER, b"{}"),
    "queue/forgive": held(1),
    "queue/head": given([1]),
    "queue/look": held(EARLIER),
    "queue/park": given(60.0, "why", 3600.0, [1]),
    "queue/put_back": lambda place: given(place.running, [1] * 10, [EARLIER] * 10, [b"{}"] * 10, [0.0] * 10, "channel")(
        place
    ),
    "client/run": a_run,
    "client/run_links": runs,
    "client/run_status": a_run,
    "client/run_steps": a_run,
    "client/run_tasks": a_run_and_a_limit,
    "client/send_job": given("one_step", "{}", None, 0),
    "client/start_run": given("one_step", "{}", None),
}
"""Statements that are a file, and what they are given."""

COMPOSED = {
    "flow/claim", "flow/start_map_tasks", "flow/start_tasks_plain", "flow/start_tasks_routed", "flow/starts_map",
    "flow/complete", "flow/complete_maps", "flow/fenced_results", "flow/waiting", "queue/claim", "queue/claim_free",
    "queue/claim_held", "queue/claim_holder", "queue/unless_locked", "queue/extend_all", "queue/extend_part",
    "probe/probe", "probe/flows", "probe/flow_backlog", "probe/queue_backlog", "probe/queue", "client/run_error",
}  # fmt: skip
"""Parts of the statements that `composed` looks at, or that something in `HOT` is filled with."""

BY_HAND = {
    "client/active_flows", "client/count_runs", "client/flows", "client/jobs", "client/retry_job", "client/retryable",
    "client/run_start", "client/runs", "client/stuck_runs",
}  # fmt: skip
"""Run when someone asks for a list, or for one job; nothing repeats them. Those that look for runs are tried in
`tests/integration/client/test_reading_plans.py`."""

FOLDERS = ("client", "flow", "probe", "queue", "recovery", "session", "workers")
GROWING = re.compile(
    r"pgflow\.(runs|step_states|step_tasks)\b|\{(queue|archive)(_table)?\}|pgmq\.\w+\(|pgflow\.\w+_(flow|tasks?)\("
)
"""What names a table that grows, or a function that reads one."""


def composed(place: Place) -> Iterator[tuple[str, str, Arguments]]:
    """Statements that are put together: what they are, their text, and what they are given."""
    features = place.features
    routed = features.start_tasks_arity >= flow_tasks.ROUTED_ARITY
    for own_maps in (True, False):
        yield f"complete, {own_maps=}", flow_results.complete_statement(own_maps=own_maps), completing
        text = flow_tasks.claim_statement("one_step", routed=routed, own_maps=own_maps)
        yield f"claim tasks, {own_maps=}", text, claiming_tasks
    yield "complete, decisive", flow_results.decisive_statement("one_step"), deciding
    for thorough in (True, False):
        text = claim_statement("one_step", last_read_at=True, begun_at=True, thorough=thorough)
        yield f"claim jobs, {thorough=}", text, claiming_jobs
    yield "extend", extend_statement(("one_step", "One_Step")), extending


async def now(place: Place) -> datetime:
    return await place.connection.fetchval("SELECT clock_timestamp() + interval '1 minute'")


async def claiming_tasks(place: Place) -> list[Any]:
    return ["one_step", 5, 10, place.grown.worker_id, ["only"], [70], [False], await now(place)]


async def claiming_jobs(place: Place) -> list[Any]:
    return [place.grown.worker_id, 15.0, 10, await now(place), 6.0, place.running]


async def extending(place: Place) -> list[Any]:
    return [[0] * 10, place.running, [1] * 10, 15.0, [EARLIER] * 10]


async def rows_read(
    connection: Connection, statement: str, arguments: Sequence[Any], settings: Mapping[str, str] | None = None
) -> int:
    """Rows and index entries of the tables that grow that one execution reads; it is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        for name, value in (settings or {}).items():
            await connection.execute("SELECT set_config($1, $2, true)", name, value)
        before = await connection.fetchval(READ, list(TABLES))
        await connection.fetch(statement, *arguments)
        return await connection.fetchval(READ, list(TABLES)) - before
    finally:
        await transaction.rollback()


Grow = Callable[[str, int], Awaitable[Grown]]


@pytest.fixture(scope="module")
def grow_core(postgres: LocalServer, core_templates: Callable[[str], Awaitable[str]]) -> Iterator[Grow]:
    """Makes a database with a history, of a core and with so many finished runs, when it is first asked for."""
    made: dict[tuple[str, int], Grown] = {}

    async def make(core: str, finished: int) -> Grown:
        if (core, finished) not in made:
            database = await create_database(postgres, f"grown_{next(_numbers)}", await core_templates(core))
            made[core, finished] = await grow(replace(database, core=core), finished=finished)
        return made[core, finished]

    async def drop() -> None:
        for grown in made.values():
            await drop_database(grown.database)

    yield make
    asyncio.run(drop())


@pytest.fixture(params=TESTED_CORES)
async def place(request: pytest.FixtureRequest, grow_core: Grow) -> AsyncIterator[Place]:
    core: str = request.param
    ends = (TESTED_CORES[0], TESTED_CORES[-1])
    grown = await grow_core(core, MILLION if core in ends else FEW)
    connection = await grown.database.connect()
    yield Place(grown=grown, connection=connection, features=await detect(connection))
    await connection.close()


async def test_no_statement_of_a_worker_or_client_reads_what_is_finished(place: Place) -> None:
    read: dict[str, int] = {}
    named = ((name, fill(name, **place.names), arguments) for name, arguments in HOT.items())
    for name, statement, arguments in (*named, *composed(place)):
        values = await arguments(place)
        read[name] = max([await rows_read(place.connection, statement, values) for _ in range(EXECUTIONS)])
    assert {name: rows for name, rows in read.items() if rows > MOST} == {}


async def test_the_operator_s_probe_does_not_either(place: Place) -> None:
    targets = [
        Target(kind=kind, slug="one_step", cap=201, namespace="n", flowworker="f")
        for kind in (SourceKind.FLOW, SourceKind.QUEUE)
    ]
    statement = probe.statement(targets, [True] * 2, place.features)
    read = await rows_read(place.connection, statement, probe.arguments(targets), probe.SETTINGS)
    assert read <= MOST


def test_every_statement_that_reads_what_grows_is_looked_at() -> None:
    folder = files("flowworker.database") / "sql"
    names = {f"{group}/{file.name.removesuffix('.sql')}" for group in FOLDERS for file in (folder / group).iterdir()}
    assert {name for name in names if GROWING.search(load(name))} - HOT.keys() - COMPOSED - BY_HAND == set()
    assert (HOT.keys() | COMPOSED | BY_HAND) - names == set()


async def test_the_check_itself_sees_a_scan(place: Place) -> None:
    scan = "SELECT * FROM pgflow.step_tasks WHERE attempts_count = 7"
    assert await rows_read(place.connection, scan, []) > MOST
    by_index = "SELECT count(*) FROM pgflow.step_tasks WHERE flow_slug = 'one_step' AND status = 'completed'"
    assert await rows_read(place.connection, by_index, [], {"enable_seqscan": "off"}) > MOST


async def test_a_plan_kept_from_when_the_queue_was_empty_is_renewed(world: World) -> None:
    """PostgreSQL keeps it until it next analyses the table, and a sort of a million messages takes a second."""
    await world.create(one_step)
    await world.owner.execute("ANALYZE pgmq.q_one_step")
    await world.owner.execute("SET plan_cache_mode = force_generic_plan")
    statement = claim_statement("one_step", last_read_at=True, begun_at=True, thorough=False)
    await world.owner.execute(f"PREPARE claim AS {statement}")
    claim = f"EXECUTE claim ('{uuid4()}', 15, 10, now(), 6, '{{}}')"
    await world.owner.fetch(claim)
    await world.owner.fetch(
        "SELECT pgmq.send_batch('one_step', array_agg('{}'::jsonb)) FROM generate_series(1, $1::integer)", MESSAGES
    )
    await world.owner.execute(load("session/replan"))
    plan = "\n".join(row[0] for row in await world.owner.fetch(f"EXPLAIN {claim}"))
    head = plan[plan.index("LockRows") :]
    assert "Index Scan using q_one_step_vt_idx" in head
    assert not {"Seq Scan", "Bitmap"} & set(re.findall("Seq Scan|Bitmap", plan))
