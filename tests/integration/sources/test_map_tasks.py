"""Tasks of maps are started and completed by functions of ours that equal the core's, and only where that is known."""

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from testkit.support.waiting import until
from tests.integration.sources.flows import chain_of_maps, fan, root_map, two_maps
from tests.integration.sources.world import World, claim_all, completed, failed, finish_one

from flowworker.database.connection import Connection, connect
from flowworker.database.flow_results import complete, fence_of
from flowworker.database.flow_tasks import claim_statement
from flowworker.database.records import ClaimedTask, Completed, TaskResult, Verdict
from flowworker.definition.flow import Flow
from flowworker.definition.step import StepKind

NEVER_LATE = datetime.max.replace(tzinfo=UTC)

TASKS = """
    SELECT run_id, step_slug, task_index, message_id, status, attempts_count, last_worker_id, queued_at, completed_at,
           failed_at, output, error_message, started_at, started_at = now() AS started_now
    FROM pgflow.step_tasks ORDER BY run_id, step_slug, task_index
"""
MESSAGES = """
    SELECT msg_id, read_ct, message, headers, round(extract(epoch FROM vt - clock_timestamp()) / 10) AS wait
    FROM pgmq.q_{slug} ORDER BY msg_id
"""
STATES = (
    "SELECT * FROM pgflow.runs ORDER BY run_id",
    "SELECT * FROM pgflow.step_states ORDER BY run_id, step_slug",
)
ARCHIVE = "SELECT msg_id, read_ct, message, headers FROM pgmq.a_{slug} ORDER BY msg_id"
OTHER_BODIES = """
    DO $$
    DECLARE
        name regprocedure;
    BEGIN
        FOREACH name IN ARRAY ARRAY[
            'pgflow.start_tasks(text, bigint[], uuid)', 'pgflow.complete_task(uuid, text, integer, jsonb)'
        ]::regprocedure[] LOOP
            EXECUTE regexp_replace(pg_get_functiondef(name), 'AS (\\$\\w*\\$)', E'AS \\\\1\\n');
        END LOOP;
    END $$
"""
CALLS = "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE schemaname = $1 AND funcname = $2"


def some_value(chance: random.Random, depth: int = 0) -> object:
    """JSON of any kind, now and then large."""
    kinds = [
        lambda: None,
        lambda: chance.random() < 0.5,
        lambda: chance.choice([0, -1, 2**53 + 1, 1e-7, 1.5]),
        lambda: chance.choice(["", "a", "é", "run", "x" * 5000, '"']),
        lambda: [some_value(chance, depth + 1) for _ in range(chance.randrange(3))],
        lambda: {key: some_value(chance, depth + 1) for key in chance.sample(["run", "first", "b"], 2)},
    ]
    return chance.choice(kinds[:4] if depth > 1 else kinds)()


def some_array(chance: random.Random) -> list[object]:
    return [some_value(chance) for _ in range(chance.choice([0, 1, 5, 9, 20]))]


async def claim_and_undo(
    connection: Connection, flow: Flow, worker_id: UUID, *, limit: int, own_maps: bool
) -> tuple[Sequence[Any], ...]:
    """What a claim answers, and how it leaves the tasks and messages; undone again."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        answer = await connection.fetch(
            claim_statement(flow.slug, routed=False, own_maps=own_maps),
            flow.slug, 5, limit, worker_id, list(flow.steps), [70] * len(flow.steps),
            [step.kind is StepKind.MAP for step in flow.steps.values()], NEVER_LATE,
        )  # fmt: skip
        tasks, messages = await connection.fetch(TASKS), await connection.fetch(MESSAGES.format(slug=flow.slug))
    finally:
        await transaction.rollback()
    answers = [{key: value for key, value in row.items() if key not in {"now", "vt"}} for row in answer]
    changed = [{k: v for k, v in row.items() if k != "started_at" or not row["started_now"]} for row in tasks]
    return answers, changed, [dict(row) for row in messages]


@pytest.mark.parametrize("flow", [root_map, fan, chain_of_maps], ids=lambda flow: flow.slug)
@pytest.mark.parametrize("seed", range(4))
async def test_our_start_of_map_tasks_equals_the_core_s(world: World, flow: Flow, seed: int) -> None:
    chance = random.Random(f"{flow.slug} {seed}")
    await world.create(flow)
    source = await world.source(flow)
    worker_id = uuid4()
    await world.register(worker_id, slug=flow.slug)
    worker = await world.database.connect_as_worker()
    started = 0
    for _ in range(5):
        await world.start(flow.slug, some_array(chance) if flow is root_map else some_value(chance))
    for _ in range(15):
        limit = chance.choice([1, 3, 10])
        ours = await claim_and_undo(worker, flow, worker_id, limit=limit, own_maps=True)
        assert ours == await claim_and_undo(worker, flow, worker_id, limit=limit, own_maps=False)
        started += sum(row["step_slug"] is not None for row in ours[0])
        for task in await claim_all(source, limit):
            ends = chance.random()
            if ends < 0.1:
                await finish_one(source, task, failed())
            elif task.step_slug in {"spread", "make"}:
                await finish_one(source, task, completed(some_array(chance)))
            elif ends < 0.95:
                await finish_one(source, task, completed(some_value(chance)))
        await world.make_visible(flow.slug)
    assert started
    await worker.close()


async def complete_and_undo(
    connection: Connection, flow: Flow, worker_id: UUID, tasks: Sequence[ClaimedTask], outputs: Sequence[bytes],
    *, own_maps: bool,
) -> tuple[dict[int, Any], Sequence[Any]]:  # fmt: skip
    """What a write of outputs answers, and how it leaves every row that it may change; undone again."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        fences = [fence_of(task, worker_id) for task in tasks]
        answers = await complete(connection, worker_id, fences, outputs, own_maps=own_maps, queue_name=flow.slug)
        statements = (*STATES, TASKS, ARCHIVE.format(slug=flow.slug))
        rows = [row for statement in statements for row in await connection.fetch(statement)]
        messages = await connection.fetch(MESSAGES.format(slug=flow.slug))
    finally:
        await transaction.rollback()
    (moment,) = {answer.written_at for answer in answers.values()}
    new = {"message_id", "msg_id"}  # a sequence does not go back
    changed = [
        {key: value == moment if isinstance(value, datetime) else value for key, value in row.items() if key not in new}
        for row in (*rows, *messages)
    ]
    ends = {position: (answer.status, answer.error) for position, answer in answers.items()}
    return ends, sorted(changed, key=repr)  # in which order runs go on is no matter


@pytest.mark.parametrize("flow", [root_map, fan, chain_of_maps], ids=lambda flow: flow.slug)
@pytest.mark.parametrize("seed", range(4))
async def test_our_completion_of_map_tasks_equals_the_core_s(world: World, flow: Flow, seed: int) -> None:
    chance = random.Random(f"complete {flow.slug} {seed}")
    await world.create(flow)
    worker_id = uuid4()
    source = await world.source(flow, worker_id=worker_id)
    worker = await world.database.connect_as_worker()
    for _ in range(5):
        await world.start(flow.slug, some_array(chance) if flow is root_map else some_value(chance))
    together = 0
    for _ in range(12):
        tasks = await claim_all(source, chance.choice([5, 30]))
        chance.shuffle(tasks)
        if not tasks:
            continue
        outputs = [
            orjson.dumps(some_array(chance) if task.step_slug in {"spread", "make"} else some_value(chance))
            for task in tasks
        ]
        ours = await complete_and_undo(worker, flow, worker_id, tasks, outputs, own_maps=True)
        assert ours == await complete_and_undo(worker, flow, worker_id, tasks, outputs, own_maps=False)
        together += len(tasks) - len({(task.run_id, task.step_slug) for task in tasks})
        ends = [failed() if chance.random() < 0.05 else Completed(output=output, duration=0.1) for output in outputs]
        await source.finish([TaskResult(task=task, outcome=end) for task, end in zip(tasks, ends, strict=True)])
        await world.make_visible(flow.slug)
    assert together
    await worker.close()


async def test_tasks_of_a_run_that_the_same_write_has_failed_stay_as_they_are(world: World) -> None:
    """A step that returned no array for the map over it fails its run at its completion (core 0.8)."""
    await world.create(two_maps)
    worker_id = uuid4()
    source = await world.source(two_maps, worker_id=worker_id)
    run_id = await world.start("two_maps", [1, 2, 3])
    tasks = await claim_all(source)
    assert len(tasks) == 4
    outputs = [b"7"] * 4
    fences = [fence_of(task, worker_id) for task in tasks]
    worker = await world.database.connect_as_worker()
    await complete(worker, worker_id, fences, outputs, own_maps=True, queue_name="two_maps")
    await worker.close()
    assert (await world.run(run_id))[0] == "failed"
    assert {(await world.task(run_id, "over_input", n))["status"] for n in range(3)} == {"started"}


@asynccontextmanager
async def counted_calls(world: World) -> AsyncGenerator[Connection]:
    superuser = await connect(world.database.superuser_dsn, application_name="test")
    await superuser.execute(f"ALTER DATABASE {world.database.name} SET track_functions = 'all'")
    try:
        yield superuser
    finally:
        await superuser.close()


@pytest.mark.parametrize("known", [True, False], ids=["known bodies", "other bodies"])
async def test_our_functions_are_used_for_tasks_of_maps_only_where_the_bodies_of_the_core_s_are_known(
    world: World, known: bool
) -> None:
    await world.create(root_map)
    if not known:
        await world.owner.execute(OTHER_BODIES)
    await world.start("root_map", [1, 2, 3])
    async with counted_calls(world) as superuser:
        source = await world.source(root_map)
        tasks = await claim_all(source)
        assert [orjson.loads(task.input) for task in tasks] == [1, 2, 3]
        await source.finish([TaskResult(task=task, outcome=completed(1)) for task in tasks])
        await world.close()
        await until(lambda: superuser.fetchval(CALLS, "pgflow", "complete_task"), "the statistics of the functions")
        assert await superuser.fetchval(CALLS, "pgflow", "complete_task") == (1 if known else 3)
        assert await superuser.fetchval(CALLS, "flowworker", "complete_map_tasks") == known
        assert await superuser.fetchval(CALLS, "flowworker", "start_map_tasks") == known
        assert await superuser.fetchval(CALLS, "pgflow", "start_tasks") == (not known)


async def test_a_worker_without_our_function_starts_tasks_of_maps_with_the_core_s(world: World) -> None:
    """The schema was installed by an earlier version, or the function was dropped beneath a worker."""
    await world.create(root_map)
    source = await world.source(root_map)
    await world.start("root_map", [1, 2])
    (task,) = await claim_all(source, 1)
    await world.owner.execute("DROP FUNCTION flowworker.start_map_tasks")
    assert len(await claim_all(source, 10, [task.msg_id])) == 1
    await world.owner.execute("DROP FUNCTION flowworker.complete_map_tasks")
    await world.start("root_map", [1, 2, 3])
    later = await world.source(root_map)
    tasks = await claim_all(later)
    assert len(tasks) == 3
    finish = await later.finish([TaskResult(task=task, outcome=completed(1)) for task in tasks])
    assert [receipt.verdict for receipt in finish.receipts] == [Verdict.COMPLETED] * 3


async def test_results_of_a_map_are_written_though_our_function_was_dropped_beneath_the_worker(world: World) -> None:
    await world.create(root_map)
    source = await world.source(root_map)
    await world.start("root_map", [1, 2, 3])
    tasks = await claim_all(source)
    await finish_one(source, tasks[0], completed(1))  # what the database can do is known by now
    await world.owner.execute("DROP FUNCTION flowworker.complete_map_tasks")
    finish = await source.finish([TaskResult(task=task, outcome=completed(1)) for task in tasks[1:]])
    assert [receipt.verdict for receipt in finish.receipts] == [Verdict.COMPLETED] * 2


async def blocks_read(world: World, messages: Sequence[int]) -> int:
    """By one start of the tasks behind these messages."""
    async with world.owner.transaction():
        plan = await world.owner.fetchval(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT t.* FROM pgflow.workers AS w "
            "CROSS JOIN LATERAL flowworker.start_map_tasks('fan', $1, w.worker_id) AS t",
            messages,
        )  # fmt: skip
    (root,) = orjson.loads(plan.encode())
    return root["Plan"]["Shared Hit Blocks"] + root["Plan"]["Shared Read Blocks"]


async def test_a_start_reads_the_array_once_however_many_tasks_it_starts(world: World) -> None:
    await world.create(fan)
    source = await world.source(fan)
    await world.start("fan")
    chance = random.Random(1)
    (spread,) = await claim_all(source)
    array = [chance.randbytes(500).hex() for _ in range(1000)]
    await finish_one(source, spread, completed(array))
    messages = [row["msg_id"] for row in await world.owner.fetch("SELECT msg_id FROM pgmq.q_fan ORDER BY msg_id")]
    assert len(messages) == 1000
    await world.owner.execute("ANALYZE pgflow.step_tasks")
    one = await blocks_read(world, messages[:1])
    assert one > 50  # the array
    few, many = await blocks_read(world, messages[1:11]), await blocks_read(world, messages[100:200])
    assert few < 2 * one
    assert many < 2 * one + 90 * 20  # of the tasks' own rows and indexes
