"""Flows and queues come into the database once, with the code's shape, and nothing is changed there unasked."""

import asyncio
from typing import Any

import pytest
from tests.conftest import Database

from flowworker.database.capabilities import detect
from flowworker.database.compile import (
    Compiled,
    database_shape,
    ensure_compiled,
    ensure_queue,
    update_options,
)
from flowworker.database.connection import Connection
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.definition.shape import shape_of
from flowworker.errors import (
    DataError,
    MissingRightsError,
    ShapeMismatchError,
    UnknownFlowError,
    UnknownQueueError,
    UnsupportedSchemaError,
)
from flowworker.worker_options import CompileMode


async def noop(value: int) -> int:
    return value


def make_flow(slug: str = "report", *, timeout: int | None = None) -> Flow:
    flow = Flow(slug, max_attempts=4, base_delay=2, timeout=30)

    @flow.step
    async def pages(site: str) -> list[str]:
        return [site]

    @flow.map(over=pages, max_attempts=2, start_delay=1, timeout=timeout)
    async def fetch(page: str) -> int:
        return len(page)

    @flow.step
    async def total(fetch: list[int], pages: list[str]) -> int:
        return sum(fetch) + len(pages)

    return flow


def make_other_flow(slug: str = "report") -> Flow:
    flow = Flow(slug)

    @flow.step
    async def pages(site: str) -> list[str]:
        return [site]

    @flow.step
    async def fetch(pages: list[str]) -> int:
        return len(pages)

    return flow


async def compile_flow(connection: Connection, flow: Flow, mode: CompileMode = CompileMode.AUTO) -> Compiled:
    return (await ensure_compiled(connection, flow, await detect(connection), mode=mode)).outcome


async def test_a_flow_is_created_on_every_core_and_then_verified(catalogue: Database) -> None:
    owner, worker = await catalogue.connect(), await catalogue.connect_as_worker()
    flow = make_flow()
    assert await compile_flow(owner, flow) is Compiled.CREATED
    assert await compile_flow(owner, flow) is Compiled.VERIFIED
    assert await compile_flow(worker, flow) is Compiled.VERIFIED
    assert await database_shape(owner, "report") == shape_of(flow)
    await owner.close()
    await worker.close()


def conditional_flow() -> Flow:
    flow = Flow("shop")

    @flow.step(when={"plan": "pro", "limits": [1.0, {"b": None, "a": 2}]}, unless={"test": True}, when_unmet="fail")
    async def items(order: dict[str, Any]) -> list[str]:
        return list(order)

    @flow.map(over=items, when={"items": ["box"]}, when_unmet="skip_cascade", when_exhausted="skip")
    async def pack(item: str) -> str:
        return item

    return flow


@pytest.mark.parametrize("catalogue", ["0.14", "0.15", "0.17"], indirect=True)
async def test_conditions_are_part_of_the_shape_that_is_created_and_verified(catalogue: Database) -> None:
    owner, flow = await catalogue.connect(), conditional_flow()
    assert await compile_flow(owner, flow) is Compiled.CREATED
    assert await compile_flow(owner, flow) is Compiled.VERIFIED
    assert await database_shape(owner, "shop") == shape_of(flow)
    rows = await owner.fetch("SELECT when_unmet, when_exhausted FROM pgflow.steps ORDER BY step_index")
    assert [tuple(row) for row in rows] == [("fail", "fail"), ("skip-cascade", "skip")]
    await owner.execute("UPDATE pgflow.steps SET forbidden_input_pattern = NULL, when_exhausted = 'fail'")
    with pytest.raises(ShapeMismatchError) as caught:
        await compile_flow(owner, flow)
    assert caught.value.differences == (
        "step 'items' has unless={\"test\":true} in the code, no unless in the database",
        "step 'pack' has when_exhausted=skip in the code, when_exhausted=fail in the database",
    )
    await owner.close()


@pytest.mark.parametrize("catalogue", ["0.8", "0.13"], indirect=True)
async def test_conditions_are_refused_on_a_core_without_them_before_anything_is_written(catalogue: Database) -> None:
    owner = await catalogue.connect()
    with pytest.raises(UnsupportedSchemaError, match=r"flow 'shop': step 'items' has conditions.*core 0\.14"):
        await compile_flow(owner, conditional_flow())
    assert await owner.fetchval("SELECT count(*) FROM pgflow.flows") == 0
    assert await owner.fetchval("SELECT count(*) FROM pgmq.meta") == 0
    await owner.close()


async def test_options_left_out_on_a_step_are_inherited(owner: Connection) -> None:
    await compile_flow(owner, make_flow())
    row = await owner.fetchrow("SELECT * FROM pgflow.steps WHERE step_slug = 'total'")
    assert row is not None
    assert [row[f"opt_{name}"] for name in ("max_attempts", "base_delay", "timeout", "start_delay")] == [None] * 4


async def test_a_different_shape_is_refused_on_every_core_and_nothing_is_lost(catalogue: Database) -> None:
    """The catalogues from 0.10 on claim to be a development database, which pgflow itself would wipe."""
    owner = await catalogue.connect()
    await compile_flow(owner, make_flow())
    await owner.execute("""SELECT pgflow.start_flow('report', '"here"')""")
    with pytest.raises(ShapeMismatchError) as caught:
        await compile_flow(owner, make_other_flow())
    assert caught.value.differences == (
        "step 'total' is only in the database",
        "step 'fetch' is a single step in the code, a map step in the database",
    )
    assert await owner.fetchval("SELECT count(*) FROM pgflow.runs") == 1
    assert await database_shape(owner, "report") == shape_of(make_flow())
    await owner.close()


async def test_changed_options_are_no_difference_and_are_not_written(owner: Connection) -> None:
    await compile_flow(owner, make_flow())
    assert await compile_flow(owner, make_flow(timeout=9)) is Compiled.VERIFIED
    assert await owner.fetchval("SELECT opt_timeout FROM pgflow.steps WHERE step_slug = 'fetch'") is None


async def test_many_workers_at_once_create_a_flow_once(catalogue: Database) -> None:
    connections = [await catalogue.connect() for _ in range(6)]
    outcomes = await asyncio.gather(*(compile_flow(connection, make_flow()) for connection in connections))
    assert sorted(outcomes) == [Compiled.CREATED, *[Compiled.VERIFIED] * 5]
    for connection in connections:
        await connection.close()


async def test_verify_mode_creates_nothing(owner: Connection) -> None:
    with pytest.raises(UnknownFlowError, match=r"no flow 'report'.*flows compile"):
        await compile_flow(owner, make_flow(), CompileMode.VERIFY)
    assert await database_shape(owner, "report") is None


async def test_a_worker_without_rights_says_what_to_run(worker: Connection) -> None:
    with pytest.raises(MissingRightsError, match="run `flowworker flows compile` with the owner's connection"):
        await compile_flow(worker, make_flow())


async def test_a_role_without_grants_gets_an_error_with_the_command_that_grants(database: Database) -> None:
    stranger = await database.connect_as_stranger()
    with pytest.raises(MissingRightsError, match="flowworker db install --role ROLE"):
        await compile_flow(stranger, make_flow())
    await stranger.close()


async def test_a_later_flow_is_covered_by_the_workers_default_privileges(owner: Connection, worker: Connection) -> None:
    await compile_flow(owner, make_flow("later"))
    await worker.execute("""SELECT pgflow.start_flow('later', '"here"')""")
    assert await worker.fetchval("SELECT count(*) FROM pgmq.read('later', 5, 1)") == 1


async def test_a_slug_that_differs_only_in_case_is_refused(owner: Connection) -> None:
    await compile_flow(owner, make_flow("report"))
    with pytest.raises(ShapeMismatchError, match="differs only in case and would share its queue"):
        await compile_flow(owner, make_flow("Report"))


@pytest.mark.parametrize("catalogue", ["0.17"], indirect=True)
@pytest.mark.parametrize(("flow", "step"), [("a__b", "only"), ("ends_", "only"), ("_begins", "only"), ("fine", "a__b")])
async def test_a_name_that_core_0_17_refuses_is_named(catalogue: Database, flow: str, step: str) -> None:
    owner = await catalogue.connect()
    made = Flow(flow)
    made.step(slug=step)(noop)
    with pytest.raises(DataError, match=f"pgflow refuses to create flow '{flow}': .*0.17 refuses a .*underscore"):
        await compile_flow(owner, made)
    assert await owner.fetchval("SELECT count(*) FROM pgflow.flows") == 0
    await owner.close()


@pytest.mark.parametrize("catalogue", ["0.17"], indirect=True)
async def test_a_queue_that_is_taken_is_named(catalogue: Database) -> None:
    owner = await catalogue.connect()
    await owner.execute("SELECT pgmq.create('report')")
    with pytest.raises(DataError, match="the database has a plain queue 'report'"):
        await compile_flow(owner, make_flow("Report"))
    await owner.close()


@pytest.mark.parametrize("catalogue", ["0.17"], indirect=True)
async def test_a_flow_with_one_queue_per_step_is_refused(catalogue: Database) -> None:
    owner = await catalogue.connect()
    await compile_flow(owner, make_flow())
    await owner.execute("UPDATE pgflow.flows SET queue_mode = 'step'")
    with pytest.raises(ShapeMismatchError, match="one queue per step"):
        await compile_flow(owner, make_flow())
    await owner.close()


async def test_without_pgflow_the_install_command_is_named(empty_database: Database) -> None:
    connection = await empty_database.connect()
    with pytest.raises(UnsupportedSchemaError, match="flowworker db install"):
        await compile_flow(connection, make_flow())
    with pytest.raises(UnsupportedSchemaError, match="flowworker db install"):
        await ensure_queue(connection, Queue("mail"), await detect(connection))
    await connection.close()


async def test_a_queue_is_created_and_then_verified(owner: Connection, worker: Connection) -> None:
    queue = Queue("mail")
    assert await ensure_queue(owner, queue, await detect(owner)) is Compiled.CREATED
    assert await ensure_queue(owner, queue, await detect(owner)) is Compiled.VERIFIED
    assert await ensure_queue(worker, queue, await detect(worker)) is Compiled.VERIFIED
    await worker.execute("""SELECT pgmq.send('mail', '{}')""")


async def test_a_missing_queue_names_the_command(owner: Connection, worker: Connection) -> None:
    with pytest.raises(MissingRightsError, match=r"run SELECT pgmq.create\('mail'\) with the owner's connection"):
        await ensure_queue(worker, Queue("mail"), await detect(worker))
    with pytest.raises(UnknownQueueError, match=r"SELECT pgmq.create\('mail'\)"):
        await ensure_queue(owner, Queue("mail"), await detect(owner), mode=CompileMode.VERIFY)


async def test_a_queue_that_differs_only_in_case_is_refused(owner: Connection) -> None:
    await ensure_queue(owner, Queue("mail"), await detect(owner))
    with pytest.raises(UnknownQueueError, match="'mail', and both would share one table"):
        await ensure_queue(owner, Queue("Mail"), await detect(owner))


async def test_a_queue_that_is_a_flow_s_is_refused(owner: Connection, worker: Connection) -> None:
    await compile_flow(owner, make_flow("report"))
    for connection in (owner, worker):
        for name in ("report", "Report"):
            for mode in CompileMode:
                with pytest.raises(UnknownQueueError, match="is the queue of flow 'report'"):
                    await ensure_queue(connection, Queue(name), await detect(connection), mode=mode)


async def test_a_flow_whose_queue_is_one_of_jobs_is_refused(owner: Connection) -> None:
    await ensure_queue(owner, Queue("Report"), await detect(owner))
    with pytest.raises(ShapeMismatchError, match="a plain queue 'Report', whose jobs would share its messages"):
        await compile_flow(owner, make_flow("report"))
    assert await database_shape(owner, "report") is None


async def test_a_role_that_may_not_see_flows_serves_queues(owner: Connection, worker: Connection) -> None:
    await ensure_queue(owner, Queue("mail"), await detect(owner))
    await owner.execute("REVOKE SELECT ON pgflow.flows FROM flowworker_worker")
    assert await ensure_queue(worker, Queue("mail"), await detect(worker)) is Compiled.VERIFIED


def make_changed_flow() -> Flow:
    """The flow of `make_flow` with options of flow and steps changed, set and left out."""
    flow = Flow("report", max_attempts=4, base_delay=7, timeout=90)

    @flow.step(timeout=5, start_delay=0)
    async def pages(site: str) -> list[str]:
        return [site]

    @flow.map(over=pages, start_delay=3)
    async def fetch(page: str) -> int:
        return len(page)

    @flow.step
    async def total(fetch: list[int], pages: list[str]) -> int:
        return sum(fetch) + len(pages)

    return flow


CHANGES = [
    "base_delay of the flow is 7 in the code, 2 in the database",
    "timeout of the flow is 90 in the code, 30 in the database",
    "timeout of step 'pages' is 5 in the code, inherited in the database",
    "max_attempts of step 'fetch' is inherited in the code, 2 in the database",
    "start_delay of step 'fetch' is 3 in the code, 1 in the database",
]


async def test_changed_options_are_reported_and_written_on_request_on_every_core(catalogue: Database) -> None:
    owner, worker = await catalogue.connect(), await catalogue.connect_as_worker()
    await compile_flow(owner, make_flow())
    changed = make_changed_flow()
    for connection in (owner, worker):
        found = await ensure_compiled(connection, changed, await detect(connection))
        assert found.outcome is Compiled.VERIFIED
        assert [str(change) for change in found.changes] == CHANGES
    with pytest.raises(MissingRightsError, match="flows compile --update-options"):
        await update_options(worker, changed)
    assert await database_shape(owner, "report") == shape_of(make_flow())
    updated = await update_options(owner, changed)
    assert updated.outcome is Compiled.UPDATED
    assert [str(change) for change in updated.changes] == CHANGES
    assert await update_options(owner, changed) == await ensure_compiled(worker, changed, await detect(worker))
    await worker.close()
    await owner.close()


async def test_options_of_a_flow_of_another_shape_are_not_written(owner: Connection) -> None:
    await compile_flow(owner, make_flow())
    with pytest.raises(ShapeMismatchError):
        await update_options(owner, make_other_flow())
    with pytest.raises(UnknownFlowError):
        await update_options(owner, make_flow("absent"))
    assert await database_shape(owner, "report") == shape_of(make_flow())


async def test_a_row_that_has_the_options_is_not_written_again(owner: Connection) -> None:
    await compile_flow(owner, make_flow())
    versions = "SELECT xmin::text FROM pgflow.flows UNION ALL SELECT xmin::text FROM pgflow.steps ORDER BY 1"
    before = await owner.fetch(versions)
    await update_options(owner, make_flow())
    assert await owner.fetch(versions) == before
