import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from testkit.support.waiting import until
from tests.conftest import STRANGER_ROLE, Database
from tests.integration.client.acting import LISTENING, complete, fail

from flowworker.client import Client
from flowworker.database.connection import Connection
from flowworker.database.records import RunStatus
from flowworker.database.runs import StepStatus, TaskStatus, retried_id, retry_id
from flowworker.errors import (
    AuthenticationError,
    DatabaseUnavailableError,
    DataError,
    MissingRightsError,
    UnknownFlowError,
    UnknownRunError,
    UnsupportedSchemaError,
)
from flowworker.telemetry.events import Event, RunStarted
from flowworker.telemetry.stream import EventStream


async def test_start_gives_the_run_with_its_input(client: Client, shop: str) -> None:
    run = await client.start(shop, {"name": "straße", "count": 0})
    assert (run.flow_slug, run.status, run.remaining_steps) == ("shop", RunStatus.STARTED, 2)
    assert run.input == {"name": "straße", "count": 0}
    assert run.output is None


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, 1.5, 2**70, "\N{SNOWMAN}"])
async def test_inputs_arrive_as_they_are(client: Client, shop: str, value: object) -> None:
    run = await client.start(shop, value)
    assert run.input == value
    assert type(run.input) is type(value)


async def test_start_is_idempotent_on_the_run_id(client: Client, shop: str) -> None:
    first = await client.start(shop, 1, run_id=(run_id := uuid4()))
    again = await client.start(shop, 2, run_id=run_id)
    assert again == first
    assert [run.run_id for run in await client.runs()] == [run_id]


async def test_many_starts_under_one_run_id_start_one_run(client: Client, shop: str) -> None:
    run_id = uuid4()
    runs = await asyncio.gather(*(client.start(shop, n, run_id=run_id) for n in range(8)))
    assert len({run.input for run in runs}) == 1
    assert len(await client.runs()) == 1


async def test_a_run_id_of_another_flow_is_refused(client: Client, owner: Connection, shop: str) -> None:
    await owner.execute("SELECT pgflow.create_flow('other'); SELECT pgflow.add_step('other', 'only')")
    run = await client.start(shop, 1)
    with pytest.raises(DataError, match="already belongs to a run of flow 'shop'"):
        await client.start("other", 1, run_id=run.run_id)


async def test_start_is_one_event_of_the_stream(database: Database, shop: str) -> None:
    events: list[Event] = []
    stream = EventStream()
    stream.subscribe(events.append)
    async with Client(database.worker_dsn, events=stream) as client:
        run = await client.start(shop, 1)
        await client.start(shop, 1, run_id=run.run_id)
    assert events == [RunStarted(flow_slug="shop", run_id=run.run_id)]


async def test_start_joins_the_callers_transaction(client: Client, worker: Connection, shop: str) -> None:
    transaction = worker.transaction()
    await transaction.start()
    run = await client.start(shop, 1, connection=worker)
    with pytest.raises(UnknownRunError):
        await client.run(run.run_id)
    await transaction.rollback()
    assert await client.runs() == []


async def test_a_refused_start_leaves_the_callers_transaction_usable(
    client: Client, worker: Connection, shop: str
) -> None:
    async with worker.transaction():
        with pytest.raises(UnknownFlowError):
            await client.start("nowhere", 1, connection=worker)
        run = await client.start(shop, 1, connection=worker)
        assert (await client.start(shop, 1, run_id=run.run_id, connection=worker)).run_id == run.run_id
    assert (await client.run(run.run_id)).run.flow_slug == shop


async def test_an_unknown_flow_is_named_with_what_to_do(client: Client) -> None:
    with pytest.raises(UnknownFlowError, match=r"no flow 'nowhere'.*flows compile"):
        await client.start("nowhere", {})


@pytest.mark.parametrize("value", [float("nan"), "\0", object(), {"deep": [1, float("inf")]}])
async def test_what_jsonb_cannot_hold_is_refused(client: Client, shop: str, value: object) -> None:
    with pytest.raises(DataError, match="value"):
        await client.start(shop, value)
    assert await client.runs() == []


async def test_a_root_map_takes_only_lists(client: Client, owner: Connection) -> None:
    await owner.execute("""
        SELECT pgflow.create_flow('fan');
        SELECT pgflow.add_step('fan', 'each', step_type => 'map');
    """)
    with pytest.raises(DataError, match="pgflow refused"):
        await client.start("fan", {"no": "list"})
    assert (await client.start("fan", [])).status is RunStatus.COMPLETED


async def test_wait_returns_the_output_when_the_run_completes(client: Client, worker: Connection, shop: str) -> None:
    run = await client.start(shop, 1)
    waiting = asyncio.create_task(client.wait(run.run_id, timeout=20))
    await complete(worker, run, "items", ["a", "b"])
    await complete(worker, run, "pack", 0, index=0)
    await complete(worker, run, "pack", None, index=1)
    ended = await waiting
    assert (ended.status, ended.output) == (RunStatus.COMPLETED, {"pack": [0, None]})


async def test_wait_returns_a_failed_run_with_its_error(client: Client, worker: Connection, shop: str) -> None:
    run = await client.start(shop, 1)
    waiting = asyncio.create_task(client.wait(run.run_id, timeout=20))
    await fail(worker, run, "items", "no stock")
    ended = await waiting
    assert (ended.status, ended.error) == (RunStatus.FAILED, "no stock")
    assert ended.has_ended


async def test_wait_ends_in_time(client: Client, shop: str) -> None:
    run = await client.start(shop, 1)
    with pytest.raises(TimeoutError, match=f"run {run.run_id} has not ended within 0.1 s"):
        await client.wait(run.run_id, timeout=0.1)


async def test_wait_for_an_unknown_run_does_not_wait(client: Client) -> None:
    with pytest.raises(UnknownRunError):
        await client.wait(uuid4())


async def test_a_wait_outlives_broken_connections(
    client: Client, owner: Connection, worker: Connection, shop: str
) -> None:
    run = await client.start(shop, 1)
    waiting = asyncio.create_task(client.wait(run.run_id, timeout=20))
    await until(lambda: worker.fetchval(LISTENING), "the client listens")
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'flowworker-client' AND datname = current_database()"
    )
    await fail(worker, run, "items", "gone")
    assert (await waiting).status is RunStatus.FAILED


async def test_many_waiters_share_one_listening_connection(client: Client, worker: Connection, shop: str) -> None:
    runs = [await client.start(shop, n) for n in range(5)]
    waiting = [asyncio.create_task(client.wait(run.run_id, timeout=20)) for run in (*runs, runs[0])]
    for run in runs:
        await fail(worker, run, "items", "no")
    assert all(run.has_ended for run in await asyncio.gather(*waiting))


async def test_run_shows_steps_in_order_and_tasks_that_need_attention_first(
    client: Client, worker: Connection, shop: str
) -> None:
    run = await client.start(shop, 1)
    await complete(worker, run, "items", ["a", "b", "c"])
    await complete(worker, run, "pack", "A", index=0)
    await fail(worker, run, "pack", "torn", index=2)
    details = await client.run(run.run_id)
    items, pack = details.steps
    assert (items.step_slug, items.status, items.completed, items.initial_tasks) == (
        "items", StepStatus.COMPLETED, 1, 1,
    )  # fmt: skip
    assert (pack.kind, pack.dependencies, pack.status) == ("map", ("items",), StepStatus.FAILED)
    assert (pack.completed, pack.failed, pack.queued, pack.attempts) == (1, 1, 1, 2)
    first = details.tasks[0]
    assert (first.step_slug, first.task_index, first.status, first.error) == ("pack", 2, TaskStatus.FAILED, "torn")
    assert len((await client.run(run.run_id, tasks=2)).tasks) == 2


async def test_runs_filters_by_flow_status_and_age(client: Client, worker: Connection, shop: str) -> None:
    failed, started = await client.start(shop, 1), await client.start(shop, 2)
    await fail(worker, failed, "items", "no")

    async def found(**by: object) -> list[object]:
        return [run.run_id for run in await client.runs(**by)]  # pyright: ignore[reportArgumentType]

    assert await found() == [started.run_id, failed.run_id]
    assert await found(limit=1) == [started.run_id]
    assert await found(status=RunStatus.FAILED) == [failed.run_id]
    assert await found(flow="other") == []
    assert await found(since=datetime.now(UTC) + timedelta(hours=1)) == []


async def test_retry_starts_a_new_run_with_the_same_input(client: Client, worker: Connection, shop: str) -> None:
    run = await client.start(shop, {"big": 2**60, "text": "ä"})
    await fail(worker, run, "items", "no")
    again = await client.retry(run.run_id)
    assert again.run_id != run.run_id
    assert (again.flow_slug, again.input, again.status) == (shop, run.input, RunStatus.STARTED)
    assert (await client.run(run.run_id)).run.status is RunStatus.FAILED


async def test_a_second_retry_is_the_first_and_both_runs_show_the_link(
    client: Client, worker: Connection, shop: str
) -> None:
    run = await client.start(shop, 1)
    await fail(worker, run, "items", "no")
    again = await client.retry(run.run_id)
    assert await client.retry(run.run_id) == again
    assert len(await client.runs(flow=shop)) == 2
    await fail(worker, again, "items", "no")
    third = await client.retry(again.run_id)
    links = [await client.run(one.run_id) for one in (run, again, third)]
    assert [(one.retry_of, one.retried_as) for one in links] == [
        (None, again.run_id), (run.run_id, third.run_id), (again.run_id, None),
    ]  # fmt: skip


async def test_two_retries_at_once_are_one_run(client: Client, worker: Connection, shop: str) -> None:
    run = await client.start(shop, 1)
    await fail(worker, run, "items", "no")
    first, second = await asyncio.gather(client.retry(run.run_id), client.retry(run.run_id))
    assert first.run_id == second.run_id
    assert len(await client.runs(flow=shop)) == 2


async def test_another_run_is_started_under_an_id_of_ones_own(client: Client, worker: Connection, shop: str) -> None:
    run = await client.start(shop, 1)
    await fail(worker, run, "items", "no")
    chosen = uuid4()
    assert (await client.retry(run.run_id, new_run_id=chosen)).run_id == chosen
    assert (await client.retry(run.run_id)).run_id != chosen


async def test_a_failed_run_is_listed_with_its_error(client: Client, worker: Connection, shop: str) -> None:
    run = await client.start(shop, 1)
    await client.start(shop, 2)
    await fail(worker, run, "items", "no stock")
    assert {one.error for one in await client.runs()} == {None, "no stock"}


@given(run_id=st.uuids())
def test_the_id_of_a_retry_leads_back_and_is_as_good_a_uuid(run_id: UUID) -> None:
    again = retry_id(run_id)
    assert again != run_id
    assert retried_id(again) == run_id
    assert (again.version, again.variant) == (run_id.version, run_id.variant)


async def test_a_run_under_way_is_not_retried(client: Client, shop: str) -> None:
    run = await client.start(shop, 1)
    with pytest.raises(DataError, match="still under way"):
        await client.retry(run.run_id)


async def test_an_unknown_run_is_an_error(client: Client) -> None:
    for call in (client.run, client.retry):
        with pytest.raises(UnknownRunError, match="no run"):
            await call(uuid4())


async def test_an_empty_database_asks_for_an_install(empty_database: Database) -> None:
    async with Client(empty_database.dsn) as client:
        with pytest.raises(UnsupportedSchemaError, match="flowworker db install"):
            await client.start("shop", 1)


async def test_the_error_of_a_role_without_rights_names_what_it_may_not_do(database: Database, shop: str) -> None:
    async with Client(database.server.dsn(database.name, STRANGER_ROLE)) as client:
        with pytest.raises(MissingRightsError, match="start a run of flow 'shop'"):
            await client.start(shop, 1)


async def test_no_server_is_unavailable() -> None:
    async with Client("postgresql://nobody@127.0.0.1:1/none") as client:
        with pytest.raises(DatabaseUnavailableError):
            await client.runs()


async def test_an_unknown_role_is_refused(database: Database) -> None:
    async with Client(database.server.dsn(database.name, "no_such_role")) as client:
        with pytest.raises(AuthenticationError):
            await client.runs()


async def test_a_closed_client_opens_again(client: Client, shop: str) -> None:
    await client.start(shop, 1)
    await client.close()
    assert len(await client.runs()) == 1
