"""Each check finds what it is for, and a healthy database is found healthy."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.acceptance.pooler import PROGRAM, transaction_pooler
from tests.conftest import Database

from flowworker.database.capabilities import detect
from flowworker.database.compile import ensure_compiled
from flowworker.database.connection import Connection, connect
from flowworker.database.doctor import (
    CHECKS,
    Examination,
    Finding,
    Level,
    OutlastingStep,
    QueueTable,
    StaleWorker,
    diagnose,
)
from flowworker.database.examination import examine
from flowworker.database.notify_setup import NotifyState, NotifyStatus, ensure_notify
from flowworker.database.owner_rights import Definer, OpenSchema
from flowworker.definition.flow import Flow
from flowworker.option_change import OptionChange

needs_pooler = pytest.mark.skipif(PROGRAM is None, reason="needs PgBouncer: apt-get install pgbouncer")

SAMPLE = Flow("sample")


@SAMPLE.step
async def only(value: int) -> int:
    return value


AWKWARD: list[dict[str, list[str]]] = [
    {"a": [], "A": []},
    {"a": ["b", "B"]},
    {"a__b": []},
    {"a": ["_b"]},
    {"a": ["b_"]},
]


def now() -> datetime:
    return datetime.now(UTC)


def problems(findings: list[Finding]) -> set[str]:
    return {finding.check for finding in findings if finding.level is not Level.OK}


@pytest.fixture
async def second(database: Database) -> AsyncIterator[Connection]:
    """Another connection with a worker's rights."""
    connection = await database.connect_as_worker()
    yield connection
    await connection.close()


@pytest.fixture
async def healthy(owner: Connection, worker: Connection, second: Connection) -> Examination:
    await ensure_compiled(owner, SAMPLE, await detect(owner))
    await ensure_notify(owner, "sample")
    return await examine(worker, second, now=now, flows=[SAMPLE])


async def test_a_healthy_database_passes_every_check(healthy: Examination) -> None:
    findings = diagnose(healthy)
    assert problems(findings) == set()
    assert {finding.check for finding in findings} == set(CHECKS)


async def test_every_problem_is_found_by_its_check_with_advice(healthy: Examination) -> None:
    lost = NotifyState(status=NotifyStatus.THROTTLE_LOST, message="lost", command="INSERT")
    found = healthy.capabilities
    sick: dict[str, list[Examination]] = {
        "server": [replace(healthy, capabilities=replace(found, in_recovery=True))],
        "schema": [
            replace(healthy, capabilities=replace(found, **{feature: False}))
            for feature in ("pgmq", "message_headers", "pgflow", "task_index", "realtime")
        ]
        + [
            replace(healthy, capabilities=replace(found, own_columns=columns))
            for columns in (frozenset[str](), found.own_columns - {"workers.begun_at"})
        ],
        "rights": [
            replace(healthy, capabilities=replace(found, can_work=False)),
            replace(healthy, capabilities=replace(found, can_report=False)),
            replace(healthy, capabilities=replace(found, denied_functions=["pgflow.start_tasks(text)"])),
            replace(healthy, capabilities=replace(found, denied_functions=["pgflow.something_new()"])),
        ],
        "escalation": [
            replace(healthy, definers=[Definer(name="pgflow.f()", is_ours=False)]),
            replace(healthy, open_schemas=[OpenSchema(name="public", by_all=True)]),
            replace(healthy, open_schemas=[OpenSchema(name="pgmq", by_all=False)]),
        ],
        "pooler": [replace(healthy, listen_works=False), replace(healthy, shares_sessions=True)],
        "clock": [replace(healthy, clock_skew=86400.0), replace(healthy, clock_skew=-86400.0)],
        "connections": [replace(healthy, connections=healthy.connection_limit - 1)],
        "vacuum": [
            replace(healthy, longest_transaction=3600.0),
            replace(healthy, oldest_xmin_age=2_000_000),
            replace(healthy, oldest_slot_age=2_000_000),
        ],
        "bloat": [
            replace(healthy, tables=[QueueTable(name="q_x", live=10, dead=50_000, fillfactor=70, bytes=1)]),
            replace(healthy, tables=[QueueTable(name="q_x", live=50_000, dead=0, fillfactor=100, bytes=1)]),
        ],
        "notify": [replace(healthy, notify={"sample": lost})],
        "flows": [
            replace(healthy, flow_problems={"sample": ["it is not in the database"]}),
            replace(healthy, flow_options={"sample": [OptionChange(step=None, option="timeout", code=1, database=2)]}),
            replace(healthy, split_flows=["sample"]),
        ],
        "requeue": [
            replace(
                healthy,
                outlasting_steps=[OutlastingStep(flow_slug="f", step_slug="s", timeout=600, flow_timeout=60)],
                capabilities=replace(found, cron=True, requeue_stalled_tasks=True, cancelled_tasks=False),
            )
        ],
        "slugs": [replace(healthy, slugs=slugs) for slugs in AWKWARD],
        "workers": [
            replace(healthy, stale_workers=[StaleWorker(worker_name="w", slug="sample", silence=60.0)]),
            replace(healthy, shared_queues=[("w", "sample")]),
        ],
        "leftovers": [replace(healthy, ownerless={"sample": 2}), replace(healthy, foreign_messages={"sample": 1})],
    }
    assert set(sick) == set(CHECKS)
    for check, examinations in sick.items():
        for examination in examinations:
            found_by_check = [finding for finding in diagnose(examination) if finding.level is not Level.OK]
            assert {finding.check for finding in found_by_check} == {check}
            assert all(finding.advice for finding in found_by_check)


async def test_a_schema_without_our_functions_for_maps_is_named(healthy: Examination) -> None:
    older = replace(healthy, capabilities=replace(healthy.capabilities, own_map_tasks=False))
    (found,) = [finding for finding in diagnose(older) if finding.level is not Level.OK]
    assert "it lacks functions for maps" in found.found
    assert "flowworker db install" in (found.advice or "")


@pytest.mark.parametrize("catalogue", ["0.17"], indirect=True)
async def test_a_flow_with_a_queue_for_each_step_is_found(catalogue: Database) -> None:
    async with examined(catalogue) as (owner, look):
        assert "flows" not in problems(await look())
        await owner.execute("UPDATE pgflow.flows SET queue_mode = 'step'")
        (found,) = [finding for finding in await look() if finding.check == "flows"]
        assert "'sample' has a queue for each step" in found.found


@pytest.mark.parametrize("catalogue", ["0.13", "0.14", "0.15"], indirect=True)
async def test_a_step_that_outlasts_its_flow_is_named_where_pgflow_would_requeue_its_running_tasks(
    catalogue: Database,
) -> None:
    async with examined(catalogue) as (owner, look):
        await owner.execute("UPDATE pgflow.steps SET opt_timeout = 600")
        assert "requeue" not in problems(await look())  # no pg_cron runs it
        found = [finding for finding in await look(cron=True) if finding.check == "requeue"]
        if catalogue.core == "0.15":  # our catalogue is 0.15.1, which asks the step
            assert [finding.level for finding in found] == [Level.OK]
        else:
            assert "step 'only' of flow 'sample' may run for 600 s" in found[0].found
            assert "give the flow a timeout of 600 s" in (found[0].advice or "")
        await owner.execute("UPDATE pgflow.steps SET opt_timeout = NULL")
        assert "requeue" not in problems(await look(cron=True))


Looking = Callable[..., Awaitable[list[Finding]]]


@asynccontextmanager
async def examined(catalogue: Database) -> AsyncGenerator[tuple[Connection, Looking]]:
    """The sample flow in a catalogue, and a function that examines it; `cron` says that a pg_cron was there."""
    owner = await catalogue.connect()
    workers = [await catalogue.connect_as_worker() for _ in range(2)]

    async def look(*, cron: bool = False) -> list[Finding]:
        examination = await examine(*workers, now=now)
        return diagnose(replace(examination, capabilities=replace(examination.capabilities, cron=cron)))

    try:
        await ensure_compiled(owner, SAMPLE, await detect(owner))
        yield owner, look
    finally:
        for connection in (owner, *workers):
            await connection.close()


async def test_a_machine_whose_clock_is_off_by_a_day_is_reported(worker: Connection, second: Connection) -> None:
    examination = await examine(worker, second, now=lambda: now() + timedelta(days=1))
    assert examination.clock_skew == pytest.approx(86400, abs=60)
    assert problems(diagnose(examination)) == {"clock"}


async def test_leftovers_and_silent_workers_are_counted(
    healthy: Examination, worker: Connection, second: Connection
) -> None:
    await worker.execute("""
        SELECT pgflow.start_flow('sample', '1');
        SELECT pgmq.send('sample', '{"foreign": true}');
        UPDATE pgflow.step_tasks SET status = 'started', started_at = clock_timestamp();
        INSERT INTO flowworker.workers
            (worker_id, boot_id, kind, slug, worker_name, version, state, slots, reported_at)
        SELECT gen_random_uuid(), gen_random_uuid(), 'flow', 'sample', 'gone', '1', 'running', 1, now() - interval '1h';
    """)
    examination = await examine(worker, second, now=now)
    assert examination.ownerless == {"sample": 1}
    assert examination.foreign_messages == {"sample": 1}
    assert [stale.worker_name for stale in examination.stale_workers] == ["gone"]
    assert problems(diagnose(examination)) == {"leftovers", "workers"}


async def test_a_worker_that_takes_a_flow_for_a_queue_is_found(
    healthy: Examination, worker: Connection, second: Connection
) -> None:
    await worker.execute("""
        INSERT INTO flowworker.workers
            (worker_id, boot_id, kind, slug, worker_name, version, state, slots, reported_at)
        SELECT gen_random_uuid(), gen_random_uuid(), 'queue', 'Sample', 'thief', '1', 'running', 1, clock_timestamp();
    """)
    findings = diagnose(await examine(worker, second, now=now))
    assert [finding.found for finding in findings if finding.level is Level.ERROR] == [
        "worker 'thief' serves 'Sample' as a queue of jobs, but it is the queue of a flow, whose messages it archives"
    ]


async def test_a_flow_that_is_not_compiled_is_reported(worker: Connection, second: Connection) -> None:
    findings = diagnose(await examine(worker, second, now=now, flows=[SAMPLE]))
    assert [finding.found for finding in findings if finding.level is Level.ERROR] == [
        "flow 'sample': it is not in the database"
    ]


async def test_a_stranger_gets_findings_instead_of_an_error(healthy: Examination, database: Database) -> None:
    strangers = [await database.connect_as_stranger() for _ in range(2)]
    findings = diagnose(await examine(*strangers, now=now, flows=[SAMPLE]))
    assert problems(findings) == {"rights", "flows"}
    for stranger in strangers:
        await stranger.close()


async def test_the_report_on_an_empty_database_says_what_to_install(empty_database: Database) -> None:
    connections = [await empty_database.connect() for _ in range(2)]
    findings = diagnose(await examine(*connections, now=now, flows=[SAMPLE]))
    assert problems(findings) == {"schema", "flows"}
    for connection in connections:
        await connection.close()


async def test_functions_that_the_role_may_not_execute_are_found(
    healthy: Examination, owner: Connection, worker: Connection, second: Connection
) -> None:
    await owner.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA pgmq, pgflow, realtime FROM PUBLIC")
    (found,) = [f for f in diagnose(await examine(worker, second, now=now)) if f.level is not Level.OK]
    assert (found.level, found.check) == (Level.ERROR, "rights")
    assert "pgflow.complete_task(uuid, text, integer, jsonb)" in found.found
    assert "db install --role flowworker_worker" in str(found.advice)


@needs_pooler
@pytest.mark.parametrize("reset", [True, False])
async def test_a_pooler_in_transaction_mode_is_found_with_two_connections(
    healthy: Examination, database: Database, reset: bool
) -> None:
    async with transaction_pooler(database, reset=reset) as dsn:
        one, other = [await connect(dsn, application_name="test", statement_cache=False) for _ in range(2)]
        examination = await examine(one, other, now=now, flows=[SAMPLE])
        assert examination.shares_sessions
        assert not examination.listen_works
        levels = {finding.level: finding for finding in diagnose(examination) if finding.check == "pooler"}
        assert "FLOWWORKER_STATEMENT_CACHE=false" in str(levels[Level.ERROR].advice)
        assert "FLOWWORKER_DIRECT_DATABASE_URL" in str(levels[Level.WARNING].advice)
        prepared = await examine(one, other, now=now, statement_cache=False)
        assert {finding.level for finding in diagnose(prepared) if finding.check == "pooler"} == {Level.WARNING}
        for connection in (one, other):
            await connection.close()


@needs_pooler
async def test_a_pooler_in_session_mode_is_fine(healthy: Examination, database: Database) -> None:
    async with transaction_pooler(database, mode="session") as dsn:
        one, other = [await connect(dsn, application_name="test") for _ in range(2)]
        assert problems(diagnose(await examine(one, other, now=now, flows=[SAMPLE]))) == set()
        for connection in (one, other):
            await connection.close()
