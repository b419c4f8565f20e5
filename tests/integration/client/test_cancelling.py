"""What cancelling does to a run or a job, on every core, and what is on record about it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from testkit.support.waiting import until
from tests.conftest import ADMIN_ROLE, Database
from tests.integration.client.acting import START, complete, end_job, fail, take_job

from flowworker.cli.jobs_view import cancelled_text as cancelled_job_text
from flowworker.cli.runs_view import cancelled_text
from flowworker.client import Client
from flowworker.database.connection import Connection, connect
from flowworker.database.grants import Profile, grant
from flowworker.database.install import install
from flowworker.database.jobs_admin import JobState
from flowworker.database.records import RunStatus
from flowworker.database.runs import StepStatus, TaskStatus
from flowworker.errors import (
    DatabaseUnavailableError,
    DataError,
    MissingRightsError,
    UnknownJobError,
    UnknownQueueError,
    UnknownRunError,
    UnsupportedSchemaError,
)

PACKING = """
    SELECT pgflow.create_flow('shop', max_attempts => 3); SELECT pgflow.add_step('shop', 'check');
    SELECT pgflow.add_step('shop', 'pack', step_type => 'map');
    SELECT pgflow.add_step('shop', 'send', ARRAY['check', 'pack']);
"""
SKIPPING = """
    SELECT pgflow.create_flow('shop', max_attempts => 1);
    SELECT pgflow.add_step('shop', 'pack', step_type => 'map', when_exhausted => 'skip-cascade');
    SELECT pgflow.add_step('shop', 'send', ARRAY['pack']);
"""
OPEN_TASKS = "SELECT count(*) FROM pgflow.step_tasks WHERE status IN ('queued', 'started')"
MESSAGES = "SELECT (SELECT count(*) FROM pgmq.q_shop) AS waiting, (SELECT count(*) FROM pgmq.a_shop) AS archived"
BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE usename = $1 AND datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
"""


@pytest.fixture
async def core(catalogue: Database) -> AsyncIterator[Connection]:
    """The owner's connection to a database that looks like one core after another."""
    owner = await catalogue.connect()
    yield owner
    await owner.close()


async def requests(connection: Connection) -> list[dict[str, Any]]:
    """What is on record, oldest first."""
    return [dict(row) for row in await connection.fetch("SELECT * FROM flowworker.requests ORDER BY request_id")]


async def until_blocked(connection: Connection) -> None:
    """Wait until the administrator's session waits for a lock."""
    await until(lambda: connection.fetchval(BLOCKED, ADMIN_ROLE), "the cancellation waits")


async def test_a_cancelled_run_fails_with_all_its_open_tasks_on_every_core(
    catalogue: Database, core: Connection
) -> None:
    await core.execute(PACKING)
    async with Client(catalogue.admin_dsn) as admin:
        run = await admin.start("shop", ["a", "b", "c"])
        await core.execute(START, run.run_id, "pack", 0)
        await complete(core, run, "pack", "B", index=1)
        cancelled = await admin.cancel_run(run.run_id, reason="wrong customer", actor="ada")
        found = await admin.run(run.run_id)
    assert (cancelled.queued, cancelled.started, cancelled.is_new) == (2, 1, True)
    assert (found.run.status, found.run.error) == (RunStatus.FAILED, "cancelled by ada: wrong customer")
    states = {step.step_slug: (step.status, step.error) for step in found.steps}
    assert states == {
        "check": (StepStatus.FAILED, "cancelled by ada: wrong customer"),
        "pack": (StepStatus.FAILED, "cancelled by ada: wrong customer"),
        "send": (StepStatus.CREATED, None),
    }
    ended = TaskStatus.CANCELLED if catalogue.core in ("0.15", "0.16", "0.17") else TaskStatus.FAILED
    tasks = {(task.step_slug, task.task_index): task for task in found.tasks}
    assert {key: task.status for key, task in tasks.items()} == {
        ("check", 0): ended, ("pack", 0): ended, ("pack", 1): TaskStatus.COMPLETED, ("pack", 2): ended,
    }  # fmt: skip
    assert [tasks["pack", index].attempts for index in range(3)] == [1, 1, 0]
    assert await core.fetchval(OPEN_TASKS) == 0
    assert tuple(await core.fetchrow(MESSAGES) or ()) == (0, 4)


@pytest.mark.parametrize("catalogue", ["0.14", "0.15", "0.17"], indirect=True)
async def test_a_flow_whose_steps_are_skipped_when_they_fail_is_cancelled_all_the_same(
    catalogue: Database, core: Connection
) -> None:
    await core.execute(SKIPPING)
    async with Client(catalogue.admin_dsn) as admin:
        run = await admin.start("shop", [1, 2])
        await admin.cancel_run(run.run_id, actor="ada")
        found = await admin.run(run.run_id)
    assert (found.run.status, found.run.error) == (RunStatus.FAILED, "cancelled by ada")
    assert [step.status for step in found.steps] == [StepStatus.FAILED, StepStatus.CREATED]
    assert await core.fetchval(OPEN_TASKS) == 0


async def test_who_cancelled_what_and_why_is_on_record(admin: Client, owner: Connection, shop: str) -> None:
    run = await admin.start(shop, 1)
    cancelled = await admin.cancel_run(run.run_id, reason="wrong customer", actor="ada")
    (record,) = await requests(owner)
    assert record["requested_at"] == cancelled.requested_at
    del record["request_id"], record["requested_at"], record["details"]
    assert record == {
        "actor": "ada", "database_role": ADMIN_ROLE, "action": "cancel", "kind": "run", "slug": "shop",
        "target": str(run.run_id), "reason": "wrong customer", "outcome": "cancelled",
    }  # fmt: skip


async def test_the_database_role_stands_for_who_gives_no_name(admin: Client, shop: str) -> None:
    run = await admin.start(shop, 1)
    assert (await admin.cancel_run(run.run_id)).actor == ADMIN_ROLE
    assert (await admin.run(run.run_id)).run.error == f"cancelled by {ADMIN_ROLE}"


async def test_a_repeated_cancellation_gives_what_the_first_one_did(
    admin: Client, worker: Connection, owner: Connection, shop: str
) -> None:
    run = await admin.start(shop, 1)
    await worker.execute(START, run.run_id, "items", 0)
    first, *others = await asyncio.gather(
        *(admin.cancel_run(run.run_id, reason=f"reason {n}", actor=f"person {n}") for n in range(4))
    )
    again = await admin.cancel_run(run.run_id, actor="someone else")
    assert sorted(result.is_new for result in (first, *others)) == [False, False, False, True]
    assert not again.is_new
    assert {(c.actor, c.reason, c.requested_at, c.started) for c in (first, *others, again)} == {
        (first.actor, first.reason, first.requested_at, 1)
    }
    assert len(await requests(owner)) == 1
    assert f"was cancelled before, at {again.requested_at:%Y-%m-%d}" in cancelled_text(again)
    assert f"by {first.actor}: {first.reason}" in cancelled_text(again)


async def test_a_run_that_comes_again_under_its_id_is_cancelled_again(
    admin: Client, owner: Connection, shop: str
) -> None:
    run_id = uuid4()
    await admin.start(shop, 1, run_id=run_id)
    await admin.cancel_run(run_id, actor="ada")
    await owner.execute("DELETE FROM pgflow.step_tasks; DELETE FROM pgflow.step_states; DELETE FROM pgflow.runs")
    await admin.start(shop, 1, run_id=run_id)
    again = await admin.cancel_run(run_id, actor="bob")
    repeated = await admin.cancel_run(run_id, actor="eve")
    assert [(one.actor, one.queued, one.is_new) for one in (again, repeated)] == [("bob", 1, True), ("bob", 1, False)]
    assert (await admin.run(run_id)).run.error == "cancelled by bob"


async def test_what_the_database_knows_of_a_request_cannot_be_given(database: Database, owner: Connection) -> None:
    admin = await connect(database.admin_dsn, application_name="test")
    await admin.execute("""
        INSERT INTO flowworker.requests (requested_at, database_role, actor, action, kind, slug, target, outcome)
        VALUES ('2001-01-01', 'postgres', 'ada', 'cancel', 'run', 'shop', 'x', 'cancelled')
    """)
    await admin.close()
    (record,) = await requests(owner)
    assert record["database_role"] == ADMIN_ROLE
    assert record["requested_at"].year > 2001


async def test_a_run_that_has_ended_is_not_cancelled_and_the_request_is_on_record(
    admin: Client, worker: Connection, owner: Connection, shop: str
) -> None:
    failed, completed = await admin.start(shop, 1), await admin.start(shop, 1)
    await fail(worker, failed, "items", "no stock")
    await complete(worker, completed, "items", [])
    for run, status in ((failed, "failed"), (completed, "completed")):
        with pytest.raises(DataError, match=f"run {run.run_id} is {status} already"):
            await admin.cancel_run(run.run_id, actor="ada")
    assert (await admin.run(failed.run_id)).run.error == "no stock"
    assert [record["outcome"] for record in await requests(owner)] == ["failed", "completed"]


async def test_an_unknown_run_is_named(admin: Client, owner: Connection) -> None:
    with pytest.raises(UnknownRunError, match="has no run"):
        await admin.cancel_run(uuid4())
    assert await requests(owner) == []


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ({"actor": " "}, "the actor is empty"),
        ({"actor": "a" * 201}, "the actor has 201 characters"),
        ({"reason": "r" * 1001}, "the reason has 1001 characters"),
        ({"reason": "a\0b"}, "the reason holds what PostgreSQL cannot store"),
        ({"actor": "\ud800"}, "the actor holds what PostgreSQL cannot store"),
    ],
)
async def test_a_text_that_the_record_cannot_hold_is_refused(
    admin: Client, owner: Connection, shop: str, texts: dict[str, str], problem: str
) -> None:
    run = await admin.start(shop, 1)
    with pytest.raises(DataError, match=problem):
        await admin.cancel_run(run.run_id, **texts)
    assert await requests(owner) == []
    await admin.cancel_run(run.run_id, actor="a" * 200, reason="r" * 1000)


async def test_who_waits_for_a_run_learns_that_it_was_cancelled(admin: Client, client: Client, shop: str) -> None:
    run = await client.start(shop, 1)
    waiting = asyncio.create_task(client.wait(run.run_id, timeout=20))
    await admin.cancel_run(run.run_id, actor="ada")
    assert (await waiting).error == "cancelled by ada"


async def test_a_cancelled_run_is_announced(admin: Client, owner: Connection, shop: str) -> None:
    run = await admin.start(shop, 1)
    heard: asyncio.Queue[object] = asyncio.Queue()

    def hear(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        heard.put_nowait(payload)

    await owner.add_listener("pgflow", hear)
    await admin.cancel_run(run.run_id)
    async with asyncio.timeout(20):
        assert str(run.run_id) in str(await heard.get())


async def test_a_cancelled_run_can_be_tried_again(admin: Client, shop: str) -> None:
    run = await admin.start(shop, {"a": 1})
    await admin.cancel_run(run.run_id)
    again = await admin.retry(run.run_id)
    assert (again.status, again.input) == (RunStatus.STARTED, {"a": 1})


async def test_neither_a_worker_nor_a_client_may_cancel(client: Client, owner: Connection, shop: str) -> None:
    run = await client.start(shop, 1)
    with pytest.raises(MissingRightsError, match=r"may not cancel a run.*db install --admin-role ROLE"):
        await client.cancel_run(run.run_id)
    assert (await client.run(run.run_id)).run.status is RunStatus.STARTED
    assert await requests(owner) == []


@pytest.mark.parametrize("act", ["UPDATE flowworker.requests SET actor = 'x'", "DELETE FROM flowworker.requests"])
async def test_the_record_cannot_be_changed_by_those_who_act(database: Database, act: str) -> None:
    connection = await connect(database.admin_dsn, application_name="test")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(act)
    await connection.close()


async def test_an_installation_from_before_says_what_to_do_and_is_brought_up_to_date(
    admin: Client, owner: Connection, shop: str
) -> None:
    run = await admin.start(shop, 1)
    await owner.execute("""
        DROP FUNCTION flowworker.cancel_run, flowworker.cancel_job; DROP TABLE flowworker.requests;
        UPDATE flowworker.ledger SET checksum = 'before' WHERE component = 'flowworker'
    """)
    with pytest.raises(UnsupportedSchemaError, match=r"cannot cancel a run.*flowworker db install"):
        await admin.cancel_run(run.run_id)
    await install(owner)
    await grant(owner, ADMIN_ROLE, Profile.ADMINISTRATOR)
    assert (await admin.cancel_run(run.run_id)).is_new


async def test_a_claim_under_way_is_waited_for_and_what_it_started_ends(
    admin: Client, worker: Connection, owner: Connection, shop: str
) -> None:
    run = await admin.start(shop, 1)
    await worker.execute(
        "INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES ($1, 'shop', 'test')",
        worker_id := uuid4(),
    )
    transaction = worker.transaction()
    await transaction.start()
    msg_id = await worker.fetchval("SELECT msg_id FROM pgmq.read('shop', 30, 1)")
    await worker.execute("SELECT pgflow.start_tasks('shop', ARRAY[$1::bigint], $2)", msg_id, worker_id)
    cancelling = asyncio.create_task(admin.cancel_run(run.run_id))
    await until_blocked(owner)
    await transaction.commit()
    cancelled = await cancelling
    assert (cancelled.queued, cancelled.started) == (0, 1)
    assert await owner.fetchval(OPEN_TASKS) == 0
    assert await owner.fetchval("SELECT count(*) FROM pgmq.q_shop") == 0


async def test_a_result_under_way_wins_and_the_rest_of_the_run_is_cancelled(
    admin: Client, worker: Connection, owner: Connection, shop: str
) -> None:
    run = await admin.start(shop, 1)
    transaction = worker.transaction()
    await transaction.start()
    await complete(worker, run, "items", ["a", "b"])
    cancelling = asyncio.create_task(admin.cancel_run(run.run_id))
    await until_blocked(owner)
    await transaction.commit()
    assert (await cancelling).queued == 2
    found = await admin.run(run.run_id)
    assert [step.status for step in found.steps] == [StepStatus.COMPLETED, StepStatus.FAILED]
    assert await owner.fetchval("SELECT count(*) FROM pgmq.q_shop") == 0


async def test_a_run_that_another_transaction_has_locked_is_not_waited_for_without_end(
    admin: Client, worker: Connection, shop: str
) -> None:
    run = await admin.start(shop, 1)
    async with worker.transaction():
        await worker.execute("SELECT FROM pgflow.runs FOR UPDATE")
        with pytest.raises(DatabaseUnavailableError, match="cannot cancel a run now"):
            await admin.cancel_run(run.run_id)
    assert (await admin.cancel_run(run.run_id)).is_new


WRITTEN = ("pgmq.a_shop", "pgflow.step_tasks", "pgflow.step_states", "pgflow.runs", "flowworker.requests")
"""The tables that a cancellation writes, in this order."""


@pytest.mark.parametrize("table", WRITTEN)
async def test_a_session_killed_at_any_write_leaves_nothing_half_done_and_the_next_call_does_it(
    admin: Client, database: Database, owner: Connection, shop: str, table: str
) -> None:
    run = await admin.start(shop, 1)
    before = await admin.run(run.run_id)
    superuser = await connect(database.superuser_dsn, application_name="test")
    await superuser.execute(f"""
        CREATE FUNCTION public.kill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            PERFORM pg_terminate_backend(pg_backend_pid());
            RETURN NULL;
        END
        $$;
        CREATE TRIGGER kill AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION public.kill();
    """)
    with pytest.raises(DatabaseUnavailableError):
        await admin.cancel_run(run.run_id, actor="ada")
    await superuser.execute(f"DROP TRIGGER kill ON {table}")
    await superuser.close()
    assert await admin.run(run.run_id) == before
    assert tuple(await owner.fetchrow(MESSAGES) or ()) == (1, 0)
    assert await requests(owner) == []
    assert (await admin.cancel_run(run.run_id, actor="ada")).is_new


# Jobs


async def test_a_waiting_a_delayed_and_a_running_job_are_archived_as_cancelled(
    admin: Client, worker: Connection, owner: Connection, mail: str
) -> None:
    running = await admin.send(mail, {"n": 1}, headers={"tenant": "a"})
    await take_job(worker, mail)
    waiting, delayed = await admin.send(mail, 2), await admin.send(mail, 3, delay=60)
    for job_id, was_running in ((running, True), (waiting, False), (delayed, False)):
        cancelled = await admin.cancel_job(mail, job_id, reason="sent twice", actor="ada")
        assert (cancelled.was_running, cancelled.is_new) == (was_running, True)
        job = await admin.job(mail, job_id)
        assert (job.state, job.error) == (JobState.CANCELLED, "cancelled by ada: sent twice")
        assert job.attempts == (1 if was_running else 0)
        assert job.ended_at is not None
    assert await owner.fetchval("SELECT count(*) FROM pgmq.q_mail") == 0
    assert (await admin.job(mail, running)).payload == {"n": 1}
    assert [job.msg_id for job in await admin.jobs(mail, state=JobState.CANCELLED)] == [delayed, waiting, running]
    records = [
        (record["kind"], record["slug"], record["target"], record["outcome"]) for record in await requests(owner)
    ]
    assert records == [("job", "mail", str(job_id), "cancelled") for job_id in (running, waiting, delayed)]


async def test_a_job_is_cancelled_once(admin: Client, owner: Connection, mail: str) -> None:
    job_id = await admin.send(mail, 1)
    results = await asyncio.gather(*(admin.cancel_job(mail, job_id, actor=f"person {n}") for n in range(4)))
    results.append(await admin.cancel_job(mail.upper(), job_id))
    assert sorted(result.is_new for result in results) == [False] * 4 + [True]
    assert len({(result.actor, result.requested_at) for result in results}) == 1
    assert len(await requests(owner)) == 1
    assert "was cancelled before" in cancelled_job_text(results[-1])


@pytest.mark.parametrize("status", ["done", "failed", None])
async def test_a_job_that_has_ended_is_not_cancelled(
    admin: Client, worker: Connection, owner: Connection, mail: str, status: str | None
) -> None:
    job_id = await admin.send(mail, 1)
    await end_job(worker, mail, job_id, **({} if status is None else {"status": status, "attempt": 1}))
    state = status or "archived"
    with pytest.raises(DataError, match=f"job {job_id} of queue 'mail' is {state} already"):
        await admin.cancel_job(mail, job_id)
    assert (await admin.job(mail, job_id)).state == state
    assert [record["outcome"] for record in await requests(owner)] == [state]


async def test_a_task_of_a_run_is_no_job_that_could_be_cancelled(catalogue: Database, core: Connection) -> None:
    await core.execute("SELECT pgflow.create_flow('Shop'); SELECT pgflow.add_step('Shop', 'pack')")
    async with Client(catalogue.admin_dsn) as admin:
        await admin.start("Shop", 1)
        (message,) = await admin.jobs("Shop")
        with pytest.raises(DataError, match='the tasks of flow "Shop": cancel the run instead'):
            await admin.cancel_job("Shop", message.msg_id)
        assert [job.state for job in await admin.jobs("Shop")] == [JobState.WAITING]
    assert await requests(core) == []


async def test_an_unknown_job_or_queue_is_named(admin: Client, mail: str) -> None:
    with pytest.raises(UnknownJobError, match="queue 'mail' has no job 7"):
        await admin.cancel_job(mail, 7)
    with pytest.raises(UnknownQueueError, match="no queue 'nowhere'"):
        await admin.cancel_job("nowhere", 7)


async def test_only_an_administrator_cancels_jobs(client: Client, mail: str) -> None:
    job_id = await client.send(mail, 1)
    with pytest.raises(MissingRightsError, match=r"may not cancel a job of queue 'mail'.*--admin-role ROLE"):
        await client.cancel_job(mail, job_id)
    assert (await client.job(mail, job_id)).state is JobState.WAITING


async def test_a_cancelled_job_can_be_sent_again(admin: Client, mail: str) -> None:
    job_id = await admin.send(mail, {"n": 1})
    await admin.cancel_job(mail, job_id)
    new_id = await admin.retry_job(mail, job_id)
    assert (await admin.job(mail, new_id)).payload == {"n": 1}
    assert await admin.retry_job(mail, job_id) == new_id


@pytest.mark.parametrize("hostile", [7, "text", [], {"failures": "x", "releases": -1}])
async def test_a_job_with_headers_of_others_is_cancelled(
    admin: Client, worker: Connection, mail: str, hostile: object
) -> None:
    job_id = await admin.send(mail, 1, headers={"flowworker": hostile})
    await admin.cancel_job(mail, job_id, actor="ada")
    assert (await admin.job(mail, job_id)).error == "cancelled by ada"


async def test_a_job_whose_session_is_killed_stays_and_is_cancelled_by_the_next_call(
    admin: Client, database: Database, owner: Connection, mail: str
) -> None:
    job_id = await admin.send(mail, 1, headers={"tenant": "a"})
    before = await admin.job(mail, job_id)
    superuser = await connect(database.superuser_dsn, application_name="test")
    await superuser.execute("""
        CREATE FUNCTION public.kill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            PERFORM pg_terminate_backend(pg_backend_pid());
            RETURN NULL;
        END
        $$
    """)
    for table in ("pgmq.q_mail", "pgmq.a_mail", "flowworker.requests"):
        await superuser.execute(
            f"CREATE TRIGGER kill AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION public.kill()"
        )
        with pytest.raises(DatabaseUnavailableError):
            await admin.cancel_job(mail, job_id)
        await superuser.execute(f"DROP TRIGGER kill ON {table}")
        assert await admin.job(mail, job_id) == before
        assert await requests(owner) == []
    await superuser.close()
    assert (await admin.cancel_job(mail, job_id)).is_new
