"""What people read of runs costs the same among many finished runs as among few."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from tests.conftest import Database

from flowworker.database import bulk
from flowworker.database.bulk import BulkAction
from flowworker.database.connection import Connection, connect
from flowworker.database.run_search import NEWEST, OLDEST, id_range
from flowworker.database.statements import load

RUNS = 1_000_000
LIMIT = 50

FLOW = "SELECT pgflow.create_flow('one_step'), pgflow.add_step('one_step', 'only')"
FILL = (
    f"""
    INSERT INTO pgflow.runs (flow_slug, input, remaining_steps, run_id, status, started_at, failed_at)
    SELECT 'one_step', '{{}}', 0, md5('run' || n)::uuid, 'failed', now() - n * interval '1 second', now()
    FROM generate_series(1, {RUNS}) AS n
    """,
    f"""
    INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, remaining_deps, initial_tasks, remaining_tasks,
                                    status, started_at, failed_at, error_message)
    SELECT 'one_step', md5('run' || n)::uuid, 'only', 0, 1, 1, 'failed', now(), now(), 'step' || n
    FROM generate_series(1, {RUNS}) AS n
    """,
    f"""
    INSERT INTO pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id, status, attempts_count,
                                   started_at, failed_at, error_message)
    SELECT 'one_step', md5('run' || n)::uuid, 'only', 0, n, 'failed', 1, now(), now(), 'task' || n
    FROM generate_series(1, {RUNS}) AS n
    WHERE n % 2 = 0
    """,
    "ANALYZE",
)


@pytest.fixture
async def finished(database: Database, owner: Connection) -> Connection:
    """A database with many runs that failed, half of them before they had a task."""
    await owner.execute(FLOW)
    admin = await connect(database.superuser_dsn, application_name="test")
    await admin.execute("SET session_replication_role = replica")  # looking up each foreign key takes minutes
    for statement in FILL:
        await admin.execute(statement)
    await admin.close()
    return owner


async def reads(connection: Connection, statement: str, *arguments: Any) -> dict[str, tuple[int, set[str]]]:
    """How often each table is read when the statement is carried out, and by what kinds of nodes."""
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", *arguments)
    found: dict[str, tuple[int, set[str]]] = {}
    for node in nodes(orjson.loads(text)[0]["Plan"]):
        if (table := node.get("Relation Name")) is not None:
            loops, kinds = found.get(table, (0, set[str]()))
            found[table] = (max(loops, node["Actual Loops"]), kinds | {node["Node Type"]})
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


NOTHING = dict.fromkeys(("flow", "status", "since", "until", "first", "last", "error", "input", "begin", "after"))
SEARCHES: dict[str, tuple[str, dict[str, object]]] = {
    "the newest": (NEWEST, {}),
    "the oldest": (OLDEST, {}),
    "of one flow": (NEWEST, {"flow": "one_step"}),
    "failed": (NEWEST, {"status": "failed"}),
    "before a time": (NEWEST, {"until": datetime.now(UTC) - timedelta(days=5)}),
    "after a time, the oldest": (OLDEST, {"since": datetime.now(UTC) - timedelta(days=5)}),
    "a later page": (NEWEST, {"begin": datetime.now(UTC) - timedelta(days=5), "after": UUID(int=1 << 127)}),
    "a later page, the oldest": (OLDEST, {"begin": datetime.now(UTC) - timedelta(days=5), "after": UUID(int=1 << 127)}),
    "by id": (NEWEST, dict(zip(("first", "last"), id_range("01234"), strict=True))),
}


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_finding_runs_reads_no_others(finished: Connection) -> None:
    for search, (statement, asked) in SEARCHES.items():
        found = await reads(finished, statement, *{**NOTHING, **asked}.values(), LIMIT)
        for table in ("runs", "step_tasks", "step_states"):
            loops, kinds = found[table]
            assert loops <= LIMIT, (search, table)
            assert kinds <= {"Index Scan", "Index Only Scan"}, (search, table)
    rows = await finished.fetch(NEWEST, *NOTHING.values(), 4)
    assert [row["error"] for row in rows] == ["step1", "task2", "step3", "task4"]
    loops, kinds = (await reads(finished, load("client/run_links"), "one_step", [UUID(int=1), UUID(int=2)]))["runs"]
    assert loops <= 2
    assert kinds <= {"Index Scan", "Index Only Scan"}


BATCHES: dict[str, tuple[BulkAction, dict[str, object]]] = {
    "retry": (BulkAction.RETRY, {"status": "failed"}),
    "retry of a day": (BulkAction.RETRY, {"status": "failed", "since": datetime.now(UTC) - timedelta(days=1)}),
    "retry of a flow, in the middle": (
        BulkAction.RETRY,
        {"status": "failed", "flow": "one_step", "begin": datetime.now(UTC) - timedelta(days=5), "after": UUID(int=1)},
    ),
    "cancel": (BulkAction.CANCEL, {"status": "started", "flow": "one_step"}),
}


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_batch_of_many_runs_reads_no_others(finished: Connection) -> None:
    await finished.execute(REQUESTS)
    await finished.execute("ANALYZE")
    moment = datetime.now(UTC) + timedelta(days=1)
    for batch, (action, asked) in BATCHES.items():
        values = {**NOTHING, **asked}.values()
        for statement in (bulk.OLDEST[action], bulk.NEWEST[action]):
            for table, (loops, kinds) in (await reads(finished, statement, *values, bulk.BATCH, moment)).items():
                assert loops <= 4 * bulk.BATCH, (batch, table)  # what sorts runs of one moment by id reads ahead
                assert kinds <= {"Index Scan", "Index Only Scan"} or table == "steps", (batch, table, kinds)
    run_ids = [row["run_id"] for row in await finished.fetch("SELECT run_id FROM pgflow.runs LIMIT 10")]
    async with finished.transaction():
        assert len(await finished.fetch(load("client/retry_runs"), run_ids, 1)) == 10
        await finished.fetchval(load("client/retried_so_far"), 1)
        await finished.fetchrow(load("client/unfinished_request"), "retry", "{}")
        read_in_full = {found["relname"] for found in await finished.fetch(READ_IN_FULL)}
        assert read_in_full <= {"steps"}  # it has one row


REQUESTS = f"""
    INSERT INTO flowworker.requests (actor, action, kind, slug, target, outcome)
    SELECT 'ada', 'cancel', 'run', 'one_step', md5('run' || n), 'cancelled' FROM generate_series(1, {RUNS}) AS n
"""
READ_IN_FULL = """
    SELECT relname FROM pg_stat_xact_user_tables
    WHERE seq_tup_read > 1000 AND schemaname IN ('pgflow', 'pgmq', 'flowworker')
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_cancelling_a_run_reads_no_table_in_full(finished: Connection) -> None:
    await finished.execute(REQUESTS)
    await finished.execute("SELECT pgmq.send_batch('one_step', array_fill('{}'::jsonb, ARRAY[100000]))")
    await finished.execute("ANALYZE")
    run_id = await finished.fetchval("SELECT run_id FROM pgflow.start_flow('one_step', '1')")
    async with finished.transaction():
        row = await finished.fetchrow("SELECT * FROM flowworker.cancel_run($1, 'ada', NULL)", run_id)
        assert row is not None
        assert (row["outcome"], row["queued"]) == ("cancelled", 1)
        assert [found["relname"] for found in await finished.fetch(READ_IN_FULL)] == []
