"""Hot statements stay cheap on big tables: no sequential scan of a table that grows."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
import pytest
from tests.integration.sources.flows import one_step
from tests.integration.sources.world import World

from flowworker.database import flow_results, flow_tasks
from flowworker.database.capabilities import detect
from flowworker.database.connection import Connection
from flowworker.database.identifiers import archive_table, queue_table
from flowworker.database.queue_jobs import claim_statement, extend_statement
from flowworker.database.statements import fill, load

MESSAGES = 20_000
EARLIER = datetime(2026, 1, 1, tzinfo=UTC)
GROWING = ("q_one_step", "a_one_step", "step_tasks", "step_states", "runs")

FILL = f"""
    INSERT INTO pgflow.runs (flow_slug, input, remaining_steps, run_id)
    SELECT 'one_step', '{{}}', 1, md5('run' || n)::uuid FROM generate_series(1, {MESSAGES}) n;
    INSERT INTO pgflow.step_states (flow_slug, run_id, step_slug, remaining_deps, initial_tasks, remaining_tasks,
                                    status, started_at)
    SELECT 'one_step', md5('run' || n)::uuid, 'only', 0, 1, 1, 'started', now() FROM generate_series(1, {MESSAGES}) n;
    SELECT pgmq.send_batch('one_step', array_agg(jsonb_build_object('step_slug', 'only', 'run_id', md5('run' || n))))
    FROM generate_series(1, {MESSAGES}) n;
    INSERT INTO pgflow.step_tasks (flow_slug, run_id, step_slug, task_index, message_id, status, attempts_count,
                                   started_at, last_worker_id)
    SELECT 'one_step', md5('run' || n)::uuid, 'only', 0, n,
           CASE WHEN n <= 50 THEN 'started' ELSE 'queued' END, (n <= 50)::integer,
           CASE WHEN n <= 50 THEN now() END, CASE WHEN n <= 50 THEN $1::uuid END
    FROM generate_series(1, {MESSAGES}) n;
    UPDATE pgmq.q_one_step SET vt = now() + interval '1 hour' WHERE msg_id <= 50;
    INSERT INTO pgmq.a_one_step SELECT * FROM jsonb_populate_recordset(NULL::pgmq.a_one_step, (
        SELECT jsonb_agg(jsonb_build_object('msg_id', n + 1000000, 'read_ct', 1, 'enqueued_at', now(), 'vt', now(),
                                            'archived_at', now())) FROM generate_series(1, {MESSAGES}) n));
"""

Q, A = queue_table("one_step"), archive_table("one_step")


@pytest.fixture
async def big(world: World) -> World:
    """A flow with many messages, tasks and archived messages."""
    return await filled(world)


async def filled(world: World) -> World:
    await world.create(one_step)
    worker_id = uuid4()
    await world.register(worker_id, slug="one_step")
    for statement in FILL.split(";\n"):
        if statement.strip():
            arguments = [worker_id] if "$1" in statement else []
            await world.owner.execute(statement, *arguments)
    await world.owner.execute("ANALYZE")
    return world


async def scans_of(connection: Connection, statement: str, arguments: list[Any]) -> set[str]:
    """Growing tables that the plan scans sequentially."""
    plan = orjson.loads((await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)).encode())
    return set(re.findall(r'"Seq Scan"[^{}]*"Relation Name":"(\w+)"', orjson.dumps(plan).decode())) & set(GROWING)


async def fences(connection: Connection) -> tuple[list[Any], ...]:
    rows = await connection.fetch("SELECT * FROM pgflow.step_tasks WHERE status = 'started' LIMIT 10")
    return (
        [row["run_id"] for row in rows],
        [row["step_slug"] for row in rows],
        [row["task_index"] for row in rows],
        [row["attempts_count"] for row in rows],
        [row["started_at"] for row in rows],
    )


Arguments = Callable[[Connection], Awaitable[list[Any]]]


async def completing(connection: Connection) -> list[Any]:
    return [uuid4(), *await fences(connection), [b"1"] * 10]


async def failing(connection: Connection) -> list[Any]:
    return ["one_step", [uuid4()] * 10, *await fences(connection), ["e"] * 10, [False] * 10, [None] * 10]


async def releasing(connection: Connection) -> list[Any]:
    return [[uuid4()] * 10, *await fences(connection), [0] * 10, [0.0] * 10, "channel"]


async def checking(connection: Connection) -> list[Any]:
    return [[uuid4()] * 10, *await fences(connection)]


async def looking(connection: Connection) -> list[Any]:
    return list((await fences(connection))[:3])


async def ended(connection: Connection) -> list[Any]:
    return [(await fences(connection))[0], [await connection.fetchval("SELECT now()")]]


def given(*arguments: Any) -> Arguments:
    async def make(_: Connection) -> list[Any]:
        return list(arguments)

    return make


NAMES = {
    "queue_table": Q,
    "archive_table": A,
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


HOT: dict[str, Arguments] = {
    "flow/owned": given(uuid4(), "one_step"),
    "flow/fail": failing,
    "flow/release": releasing,
    "flow/held": checking,
    "flow/prolong": given([1, 2], 20.0),
    "flow/look": looking,
    "flow/ended_runs": ended,
    "flow/leftovers": given("one_step", [1, 2, 3]),
    "flow/next_due": given(),
    "recovery/stranded": given("one_step", uuid4(), 60.0, 200, []),
    "recovery/ended": given("one_step", uuid4(), 200),
    "workers/begun": given(uuid4(), None),
    "queue/head": given([1]),
    "queue/park": given(60.0, "why", 3600.0, [1]),
    "queue/forgive": given([1, 2], [1, 1]),
    "recovery/ghosts": given("one_step", 200),
    "queue/archive": given([1, 2], [1, 1], [EARLIER] * 2, [b"{}"] * 2),
    "queue/put_back": given([1, 2], [1, 1], [EARLIER] * 2, [b"{}"] * 2, [0.0, 0.0], "channel"),
    "queue/look": given([1, 2], [EARLIER] * 2),
}


async def test_no_hot_statement_scans_a_growing_table(big: World) -> None:
    scans = {
        name: await scans_of(big.owner, fill(name, **NAMES), await arguments(big.owner))
        for name, arguments in HOT.items()
    }
    for own_maps in (True, False):
        complete = flow_results.complete_statement(own_maps=own_maps)
        scans[f"complete, {own_maps=}"] = await scans_of(big.owner, complete, await completing(big.owner))
    assert {name: tables for name, tables in scans.items() if tables} == {}


async def test_claims_find_the_head_of_the_queue_by_an_index(big: World) -> None:
    now = await big.owner.fetchval("SELECT clock_timestamp()")
    for thorough in (True, False):
        jobs = claim_statement("one_step", last_read_at=True, begun_at=True, thorough=thorough)
        assert await scans_of(big.owner, jobs, [uuid4(), 15.0, 10, now, 6.0, []]) == set()
    for own_maps in (True, False):
        tasks = flow_tasks.claim_statement("one_step", routed=False, own_maps=own_maps)
        arguments = ["one_step", 5, 10, uuid4(), ["only"], [70], [False], now]
        assert await scans_of(big.owner, tasks, arguments) == set()
    async with big.owner.transaction():
        await big.owner.fetch(
            "SELECT t.* FROM pgflow.workers, flowworker.start_map_tasks('one_step', ARRAY[60, 61, 62], worker_id) AS t"
        )
        looked = await big.owner.fetch("SELECT relname FROM pg_stat_xact_user_tables WHERE seq_tup_read > 1000")
    assert {row["relname"] for row in looked} & set(GROWING) == set()


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


async def test_leases_of_several_queues_are_extended_by_their_keys(big: World) -> None:
    statement = extend_statement(("one_step", "One_Step"))
    assert await scans_of(big.owner, statement, [[0, 1], [1, 2], [1, 1], 15.0, [EARLIER] * 2]) == set()


BY_MESSAGE: dict[str, Arguments] = {
    "flow/leftovers": given("one_step", [1, 2, 3]),
    "recovery/ghosts": given("one_step", 200),
}
BY_INDEX = {
    "0.8": "Index Cond: (message_id = ",
    "0.17": "Index Cond: ((queue_name = 'one_step'::text) AND (message_id = ",
}


@pytest.mark.parametrize("catalogue", list(BY_INDEX), indirect=True)
async def test_tasks_are_found_by_their_message_on_each_core(core_world: World) -> None:
    big = await filled(core_world)
    names = {**NAMES, "by_queue": flow_tasks.by_queue(await detect(big.owner))}
    for name, arguments in BY_MESSAGE.items():
        statement = f"EXPLAIN {fill(name, **names)}"
        plan = "\n".join(row[0] for row in await big.owner.fetch(statement, *await arguments(big.owner)))
        assert BY_INDEX[big.database.core] in plan, f"{name}: {plan}"


async def test_the_check_itself_sees_a_scan(big: World) -> None:
    statement = "SELECT * FROM pgmq.q_one_step WHERE read_ct = 7"
    assert await scans_of(big.owner, statement, []) == {"q_one_step"}
