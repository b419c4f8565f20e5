"""The plan of the probe: every part follows an index to its limit, with statistics or without, whatever there is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from uuid import uuid4

import orjson
import pytest
from tests.conftest import Database
from tests.integration.operator.backlog import fill_flow, fill_queue
from tests.integration.operator.observer import demand, report, session, subject

from flowworker.database import probe
from flowworker.database.capabilities import detect
from flowworker.database.connection import Connection
from flowworker.database.probe import Target
from flowworker_operator.database.interpret import target_of

GROWING = frozenset({"q_few", "q_many", "q_fewer_jobs", "q_many_jobs", "step_tasks", "step_states", "runs", "workers"})
FEW, MANY = 1_000, 20_000
MOST_BLOCKS = 4_000
"""Blocks that a probe of one flow may touch with the cap below, whatever there is."""
MOST_BLOCKS_EACH = 25
"""Blocks for each of many subjects that have nothing to do."""
CAP = 201

BY_TASK = frozenset({"step_tasks_pkey", "idx_step_tasks_flow_run_step", "idx_step_tasks_queued"})
"""Indexes that lead to a task without its message; the first alone leads to one task."""

Plan = Mapping[str, Any]


def literal(value: object) -> str:
    """A value as PostgreSQL reads it."""
    if isinstance(value, list):
        entries = cast("Sequence[object]", value)
        return f"ARRAY[{', '.join(literal(entry) for entry in entries)}]"
    return f"'{value}'" if isinstance(value, str) else str(value)


async def explain(database: Database, *targets: Target) -> Plan:
    """The plan that the probe keeps, as it was executed."""
    connection = await session(database)
    try:
        text = probe.statement(targets, [True] * len(targets), await detect(connection))
        await connection.execute(f"PREPARE probe AS {text}")
        values = ", ".join(literal(value) for value in probe.arguments(targets))
        answer = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE probe({values})")
        return orjson.loads(answer)[0]["Plan"]
    finally:
        await connection.close()


def nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans(plan: Plan) -> set[tuple[str, str]]:
    """How each growing table is read."""
    found = {(node["Node Type"], node.get("Relation Name", "")) for node in nodes(plan)}
    return {(kind, table) for kind, table in found if table in GROWING}


def blocks(plan: Plan) -> int:
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.fixture
async def filled(database: Database, owner: Connection) -> Database:
    """Flows and queues with few and with many messages, some of them running, and their workers."""
    for slug, count in {"few": FEW, "many": MANY}.items():
        await fill_flow(owner, slug, count)
        await fill_queue(owner, f"{slug}_jobs", count)
        worker_id = await report(owner, slug=slug, flowworker=slug)
        await owner.execute(
            "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES ($1, 'q', 'f')", worker_id
        )
        await owner.execute(
            "UPDATE pgflow.step_tasks SET status = 'started', started_at = clock_timestamp(), last_worker_id = $1 "
            "WHERE flow_slug = $2 AND message_id <= 50",
            worker_id, slug,
        )  # fmt: skip
        await owner.execute(f"UPDATE pgmq.q_{slug} SET vt = now() + interval '1 hour' WHERE msg_id <= 50")
    await owner.execute(
        "INSERT INTO flowworker.workers (worker_id, boot_id, kind, slug, worker_name, version, state, slots) "
        "SELECT gen_random_uuid(), gen_random_uuid(), 'flow', 'other', 'w', '0', 'stopped', 1 "
        "FROM generate_series(1, 5000)"
    )
    return database


@pytest.mark.parametrize("analyzed", [False, True])
async def test_every_part_follows_an_index_and_the_cost_does_not_follow_the_backlog(
    filled: Database, owner: Connection, analyzed: bool
) -> None:
    if analyzed:
        await owner.execute("ANALYZE")
    flows = [target_of(subject(slug, cap=CAP)) for slug in ("few", "many")]
    queues = [target_of(subject(slug, "queue", cap=CAP)) for slug in ("few_jobs", "many_jobs")]
    plans = {target.slug: await explain(filled, target) for target in (*flows, *queues)}
    for plan in plans.values():
        assert {kind for kind, _ in scans(plan)} <= {"Index Scan", "Index Only Scan"}
        assert blocks(plan) < MOST_BLOCKS
    assert blocks(plans["many"]) < 1.5 * blocks(plans["few"]), "20 times the backlog"
    assert blocks(plans["many_jobs"]) < 1.5 * blocks(plans["few_jobs"])


@pytest.mark.parametrize("others", [0, 8])
async def test_a_task_of_a_big_map_is_one_probe_of_an_index_however_many_flows_use_the_same_ids(
    database: Database, owner: Connection, others: int
) -> None:
    for number in range(others):
        await fill_flow(owner, f"other_{number}", 400)
    await owner.execute("SELECT pgflow.create_flow('wide'), pgflow.add_step('wide', 'each', step_type => 'map')")
    await owner.execute("SELECT pgflow.start_flow('wide', $1)", orjson.dumps(list(range(3000))))
    await owner.execute("ANALYZE")
    wide = subject("wide", cap=CAP)
    plan = await explain(database, target_of(wide))
    used = {node.get("Index Name") for node in nodes(plan) if node.get("Actual Loops", 0) > 1}
    assert used & BY_TASK == ({"step_tasks_pkey"} if others else set())
    assert blocks(plan) < MOST_BLOCKS
    assert (await demand(database, wide)).startable == CAP


async def test_two_hundred_subjects_follow_indexes_too(database: Database, owner: Connection) -> None:
    await owner.execute(
        "SELECT pgflow.create_flow('flow_' || n), pgflow.add_step('flow_' || n, 'only'), pgmq.create('queue_' || n) "
        "FROM generate_series(1, 100) n"
    )
    await fill_flow(owner, "many", MANY)
    numbers = range(1, 101)
    targets = [
        *(target_of(subject(f"flow_{number}", cap=CAP)) for number in numbers),
        *(target_of(subject(f"queue_{number}", "queue", cap=CAP)) for number in numbers),
        target_of(subject("many", cap=CAP)),
    ]
    plan = await explain(database, *targets)
    assert {kind for kind, _ in scans(plan)} <= {"Index Scan", "Index Only Scan"}
    assert blocks(plan) < MOST_BLOCKS_EACH * len(targets)


async def test_the_text_depends_on_kinds_and_queues_only(worker: Connection) -> None:
    features = await detect(worker)
    one = target_of(subject("one", cap=5))
    other = target_of(subject("one", cap=9, name=str(uuid4()), namespace="elsewhere"))
    assert probe.statement([one], [True], features) == probe.statement([other], [True], features)
    assert probe.statement([one], [True], features) != probe.statement([one], [False], features)
