"""What is announced about runs on a plain PostgreSQL: the choice at the installation, and what those who wait hear."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import orjson
import pytest
from tests.conftest import Database

from flowworker.client import Client
from flowworker.database.capabilities import detect
from flowworker.database.connection import Connection
from flowworker.database.install import Action, install
from flowworker.database.packaged import Component
from flowworker.database.records import RunStatus
from flowworker.database.run_events import RunEvents, RunEventScope, chosen_scope, scope_of
from flowworker.errors import UsageError

NONE, ENDS, ALL = RunEventScope

BEFORE_THE_CHOICE = """
    CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
    RETURNS void LANGUAGE sql AS $$
        SELECT pg_notify('pgflow', json_build_object('event', event, 'run_id', payload->>'run_id')::text)
    $$;
    UPDATE flowworker.ledger SET checksum = 'of before' WHERE name = 'realtime_stub.sql'
"""
REAL = """
    CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
    RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM 'the real one'; END $$
"""


FLOW = "SELECT pgflow.create_flow('announced', 1, 0, 60); SELECT pgflow.add_step('announced', 'one')"
REGISTER = """
    INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES (gen_random_uuid(), 'announced', 'test')
    RETURNING worker_id
"""


class Listener:
    """What is heard on channel `pgflow`."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.last = asyncio.Event()

    def note(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        event = orjson.loads(str(payload))["event"]
        if event == "last":
            self.last.set()
        else:
            self.heard.append(event)


@pytest.fixture
async def listener(owner: Connection) -> AsyncIterator[Listener]:
    """Listens during a test."""
    listener = Listener()
    await owner.add_listener("pgflow", listener.note)
    yield listener
    await owner.remove_listener("pgflow", listener.note)


async def fail_run(owner: Connection, run_id: UUID) -> None:
    """Start the task of a run and fail it, as a worker would."""
    worker_id = await owner.fetchval(REGISTER)
    await owner.execute(
        "SELECT pgflow.start_tasks('announced', ARRAY(SELECT msg_id FROM pgmq.read('announced', 60, 1)), $1)", worker_id
    )
    await owner.execute("SELECT pgflow.fail_task($1, 'one', 0, 'on purpose')", run_id)


async def status_of(connection: Connection) -> RunEventScope | None:
    return (await detect(connection)).run_events


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (NONE, []),
        (ENDS, ["run:failed"]),
        (ALL, ["run:failed", "run:started", "step:one:failed", "step:one:started"]),
    ],
)
async def test_each_choice_announces_what_it_says(
    owner: Connection, listener: Listener, scope: RunEventScope, expected: list[str]
) -> None:
    await install(owner, run_events=scope)
    await owner.execute(FLOW)
    await fail_run(owner, await owner.fetchval("SELECT run_id FROM pgflow.start_flow('announced', '1')"))
    await owner.execute("SELECT pg_notify('pgflow', '{\"event\": \"last\"}')")
    async with asyncio.timeout(20):
        await listener.last.wait()
    assert sorted(listener.heard) == expected


async def test_by_default_the_ends_of_runs_are_announced(owner: Connection) -> None:
    assert await status_of(owner) is ENDS


async def test_installing_again_with_another_choice_switches_and_without_one_keeps_it(owner: Connection) -> None:
    for scope in (ALL, NONE, ENDS, NONE):
        report = await install(owner, run_events=scope)
        assert report.action(Component.REALTIME) is Action.UPDATED
        assert await status_of(owner) is scope
        assert (await install(owner, run_events=scope)).action(Component.REALTIME) is Action.KEPT
        assert (await install(owner)).action(Component.REALTIME) is Action.KEPT
        assert await status_of(owner) is scope


async def test_an_installation_from_before_the_choice_announces_ends_from_now_on(owner: Connection) -> None:
    await owner.execute(BEFORE_THE_CHOICE)
    assert await status_of(owner) is ALL
    assert (await install(owner)).action(Component.REALTIME) is Action.UPDATED
    assert await status_of(owner) is ENDS


@pytest.mark.parametrize("scope", [None, *RunEventScope])
async def test_a_real_realtime_that_came_after_ours_is_never_touched(
    owner: Connection, scope: RunEventScope | None
) -> None:
    await owner.execute(REAL)
    report = await install(owner, run_events=scope)
    assert report.action(Component.REALTIME) is Action.KEPT
    assert await status_of(owner) is None
    (line,) = [one for one in report.components if one.component is Component.REALTIME]
    assert line.detail == "not ours, so left alone"


async def test_a_choice_is_refused_where_it_would_be_without_effect(owner: Connection) -> None:
    with pytest.raises(UsageError, match="--run-events"):
        await install(owner, only=Component.FLOWWORKER, run_events=ALL)


def test_a_text_that_is_not_ours_chooses_nothing() -> None:
    for source in (None, "", "INSERT INTO realtime.messages", "-- flowworker announces: more than we know"):
        assert (chosen_scope(source), scope_of(source)) == (None, None)


@pytest.mark.parametrize("scope", RunEventScope)
async def test_a_client_that_waits_learns_of_the_end_whatever_is_announced(
    database: Database, owner: Connection, scope: RunEventScope
) -> None:
    await install(owner, run_events=scope)
    await owner.execute(FLOW)
    async with Client(database.dsn) as client:
        run = await client.start("announced", 1)
        waiting = asyncio.ensure_future(client.wait(run.run_id, timeout=30))
        seen: list[RunStatus] = []
        async for status in client.watch(run.run_id):
            if not seen:
                await fail_run(owner, run.run_id)
            seen.append(status)
        assert (await waiting).status is RunStatus.FAILED
    assert (seen[0], seen[-1]) == (RunStatus.STARTED, RunStatus.FAILED)


@pytest.mark.parametrize("scope", [ENDS, ALL])
async def test_who_waits_for_a_run_hears_of_its_end_at_once(
    database: Database, owner: Connection, scope: RunEventScope
) -> None:
    await install(owner, run_events=scope)
    await owner.execute(FLOW)
    run_id = await owner.fetchval("SELECT run_id FROM pgflow.start_flow('announced', '1')")
    events = RunEvents(database.dsn, application_name="test")
    async with events.about(run_id) as happened, asyncio.timeout(20):
        await fail_run(owner, run_id)
        await happened.wait()
    await events.close()
