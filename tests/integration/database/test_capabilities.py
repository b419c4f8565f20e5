"""What `detect` sees on each core, with each role, and on servers that take no writes; and that the catalogues work."""

import json
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.conftest import Database

from flowworker.database.capabilities import Capabilities, detect
from flowworker.database.connection import Connection, connect
from flowworker.database.run_events import RunEventScope

DISTINGUISHING = {
    "stopped_at": "0.10",
    "mark_worker_stopped": "0.10",
    "claim_flow_input": "0.12",
    "step_output": "0.13",
    "requeue_columns": "0.13",
    "requeue_stalled_tasks": "0.13",
    "skipping": "0.14",
    "cancelled_tasks": "0.15",
    "start_mode": "0.15",
    "can_track": "0.15",
    "queue_columns": "0.17",
    "queue_mode": "0.17",
    "pgflow_version": "0.17",
}
"""Feature -> the first catalogue that has it."""

CORE_NAMES = {
    "0.8": "0.8 or 0.9",
    "0.10": "0.10 or 0.11",
    "0.12": "0.12",
    "0.13": "0.13",
    "0.14": "0.14",
    "0.15": "0.15",
    "0.16": "0.16",
    "0.17": "0.17 or newer",
}


async def capabilities_of(dsn: str) -> Capabilities:
    connection = await connect(dsn, application_name="test")
    try:
        return await detect(connection)
    finally:
        await connection.close()


async def test_every_feature_is_seen_from_the_core_on_that_has_it(catalogue: Database) -> None:
    found = await capabilities_of(catalogue.worker_dsn)
    expected = {feature: _version(catalogue.core) >= _version(first) for feature, first in DISTINGUISHING.items()}
    assert {feature: getattr(found, feature) for feature in DISTINGUISHING} == expected
    assert found.core == CORE_NAMES[catalogue.core]
    assert found.start_tasks_arity == (5 if catalogue.core == "0.17" else 3)
    assert found.pgmq
    assert found.task_index
    assert found.deprecated_at


async def test_a_worker_may_work_and_report_but_not_compile(database: Database) -> None:
    found = await capabilities_of(database.worker_dsn)
    assert (found.can_work, found.can_report, found.can_notify) == (True, True, True)
    assert (found.can_compile, found.can_create_queue, found.can_write_flows) == (False, False, False)


async def test_the_owner_may_compile(database: Database) -> None:
    assert (await capabilities_of(database.dsn)).can_compile


async def test_a_stranger_may_do_nothing(database: Database) -> None:
    found = await capabilities_of(database.server.dsn(database.name, "flowworker_stranger"))
    assert not any((found.can_work, found.can_report, found.can_notify, found.can_compile))


async def test_an_empty_database_has_nothing(empty_database: Database) -> None:
    found = await capabilities_of(empty_database.dsn)
    assert not any((found.pgmq, found.pgflow, found.realtime, found.own_schema, found.can_work))
    assert found.core is None
    assert found.start_tasks_arity == 0


async def test_our_schema_and_realtime_stub_are_recognised(database: Database) -> None:
    found = await capabilities_of(database.worker_dsn)
    assert found.own_schema
    assert found.run_events is RunEventScope.ENDS
    assert found.pgmq_extension is None


async def test_a_real_realtime_is_distinguished_from_the_stub(database: Database, owner: Connection) -> None:
    await owner.execute(
        "CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) "
        "RETURNS void LANGUAGE sql AS 'SELECT'"
    )
    found = await capabilities_of(database.dsn)
    assert found.realtime
    assert found.run_events is None


async def test_a_read_only_server_is_seen(database: Database) -> None:
    connection = await connect(database.dsn, application_name="test")
    await connection.execute("SET default_transaction_read_only = on")
    found = await detect(connection)
    await connection.close()
    assert found.read_only
    assert not found.writable


async def test_a_run_goes_through_on_every_catalogue(catalogue: Database) -> None:
    owner, worker = await catalogue.connect(), await catalogue.connect_as_worker()
    await create_flow(owner)
    worker_id = await register(worker)
    run_id = await start(worker, {"n": 2})
    (first,) = await claim(worker, worker_id)
    await complete(worker, first, [1, None])
    elements = await claim(worker, worker_id)
    assert [json.loads(record["input"]) for record in elements] == [1, None]
    for record in elements:
        await complete(worker, record, {"index": record["task_index"]})
    (last,) = await claim(worker, worker_id)
    dependencies = json.loads(last["input"])
    assert dependencies.pop("run", None) == ({"n": 2} if _version(catalogue.core) < (0, 12) else None)
    assert dependencies == {"each": [{"index": 0}, {"index": 1}]}
    await complete(worker, last, False)
    row = await worker.fetchrow("SELECT status, output FROM pgflow.runs WHERE run_id = $1", run_id)
    assert row is not None
    assert (row["status"], json.loads(row["output"])) == ("completed", {"last": False})
    await owner.close()
    await worker.close()


@pytest.mark.parametrize("catalogue", ["0.12", "0.14"], indirect=True)
async def test_flow_input_comes_with_every_claim_until_core_0_13_and_then_with_root_steps(catalogue: Database) -> None:
    owner, worker = await catalogue.connect(), await catalogue.connect_as_worker()
    await create_flow(owner)
    worker_id = await register(worker)
    await start(worker, {"n": 2})
    (first,) = await claim(worker, worker_id)
    assert (json.loads(first["input"]), json.loads(first["flow_input"])) == ({}, {"n": 2})
    await complete(worker, first, [1])
    (element,) = await claim(worker, worker_id)
    assert (element["flow_input"] is None) is (catalogue.core == "0.14")
    await owner.close()
    await worker.close()


@pytest.mark.parametrize("catalogue", ["0.14", "0.17"], indirect=True)
async def test_an_exhausted_step_that_skips_lets_its_run_go_on(catalogue: Database) -> None:
    owner, worker = await catalogue.connect(), await catalogue.connect_as_worker()
    await create_flow(owner)
    await owner.execute(
        "UPDATE pgflow.steps SET when_exhausted = 'skip', opt_max_attempts = 1 WHERE step_slug = 'each'"
    )
    worker_id = await register(worker)
    run_id = await start(worker, {})
    (first,) = await claim(worker, worker_id)
    await complete(worker, first, [1, 2])
    broken, _ = await claim(worker, worker_id)
    await fail(worker, broken)
    states = await worker.fetch("SELECT step_slug, status FROM pgflow.step_states WHERE run_id = $1", run_id)
    statuses = {state["step_slug"]: state["status"] for state in states}
    assert statuses == {"first": "completed", "each": "skipped", "last": "started"}
    tasks = await worker.fetch("SELECT status FROM pgflow.step_tasks WHERE step_slug = 'each' ORDER BY task_index")
    assert [task["status"] for task in tasks] == ["failed", "skipped" if catalogue.core == "0.17" else "started"]
    (last,) = await claim(worker, worker_id)
    assert json.loads(last["input"]) == {}
    await owner.close()
    await worker.close()


@pytest.mark.parametrize("catalogue", ["0.14", "0.15"], indirect=True)
async def test_tasks_of_a_failed_run_are_cancelled_from_core_0_15_on(catalogue: Database) -> None:
    owner, worker = await catalogue.connect(), await catalogue.connect_as_worker()
    await create_flow(owner)
    await owner.execute("UPDATE pgflow.flows SET opt_max_attempts = 1")
    worker_id = await register(worker)
    await start(worker, {})
    (first,) = await claim(worker, worker_id)
    await complete(worker, first, [1, 2])
    broken, _ = await claim(worker, worker_id)
    await fail(worker, broken)
    tasks = await worker.fetch("SELECT status FROM pgflow.step_tasks WHERE step_slug = 'each' ORDER BY task_index")
    assert [task["status"] for task in tasks] == ["failed", "cancelled" if catalogue.core == "0.15" else "started"]
    assert await worker.fetchval("SELECT count(*) FROM pgmq.q_sample") == 0
    await owner.close()
    await worker.close()


@pytest.mark.parametrize("catalogue", ["0.14", "0.15", "0.17"], indirect=True)
async def test_a_claim_extends_visibility_and_insists_on_the_message_from_core_0_15_on(catalogue: Database) -> None:
    owner, worker = await catalogue.connect(), await catalogue.connect_as_worker()
    await create_flow(owner)
    worker_id = await register(worker)
    await start(worker, {})
    await claim(worker, worker_id)
    seconds = await worker.fetchval("SELECT extract(epoch FROM vt - clock_timestamp()) FROM pgmq.q_sample")
    assert (seconds > 30) is (catalogue.core != "0.14")
    await start(worker, {})
    message = await worker.fetchval("DELETE FROM pgmq.q_sample WHERE vt <= clock_timestamp() RETURNING msg_id")
    if catalogue.core == "0.14":
        assert len(await start_tasks(worker, worker_id, [message])) == 1
    else:
        with pytest.raises(asyncpg.InvalidTextRepresentationError, match="updated 0 of 1 messages"):
            await start_tasks(worker, worker_id, [message])
    await owner.close()
    await worker.close()


async def create_flow(owner: Connection) -> None:
    await owner.execute("SELECT pgflow.create_flow('sample')")
    await owner.execute("SELECT pgflow.add_step('sample', 'first')")
    await owner.execute("SELECT pgflow.add_step('sample', 'each', ARRAY['first'], step_type => 'map')")
    await owner.execute("SELECT pgflow.add_step('sample', 'last', ARRAY['each'])")


async def register(worker: Connection) -> UUID:
    worker_id = uuid4()
    await worker.execute(
        "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES ($1, 'sample', 'test')", worker_id
    )
    return worker_id


async def start(worker: Connection, value: object) -> UUID:
    return await worker.fetchval("SELECT run_id FROM pgflow.start_flow('sample', $1)", json.dumps(value).encode())


async def claim(worker: Connection, worker_id: UUID) -> list[asyncpg.Record]:
    messages = await worker.fetch("SELECT msg_id FROM pgmq.read('sample', 5, 10)")
    records = await start_tasks(worker, worker_id, [message["msg_id"] for message in messages])
    return sorted(records, key=lambda record: record["task_index"])


async def start_tasks(worker: Connection, worker_id: UUID, messages: list[int]) -> list[asyncpg.Record]:
    queue = ", queue_name => 'sample'" if (await detect(worker)).queue_columns else ""
    statement = f"SELECT * FROM pgflow.start_tasks(flow_slug => 'sample', msg_ids => $1, worker_id => $2{queue})"
    return await worker.fetch(statement, messages, worker_id)


async def complete(worker: Connection, record: asyncpg.Record, output: object) -> None:
    await worker.execute(
        "SELECT pgflow.complete_task($1, $2, $3, $4)",
        record["run_id"], record["step_slug"], record["task_index"], json.dumps(output).encode(),
    )  # fmt: skip


async def fail(worker: Connection, record: asyncpg.Record) -> None:
    await worker.execute(
        "SELECT pgflow.fail_task($1, $2, $3, 'broken')", record["run_id"], record["step_slug"], record["task_index"]
    )


def _version(core: str) -> tuple[int, ...]:
    return tuple(int(part) for part in core.split("."))
