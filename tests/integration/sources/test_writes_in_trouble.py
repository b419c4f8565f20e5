"""One result that cannot be written never holds up another."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from testkit.support.proxy import Proxy
from testkit.support.waiting import until
from tests.conftest import OWNER_ROLE, Database, drop_database, install_everything
from tests.integration.sources.flows import one_step, root_map
from tests.integration.sources.world import World, a_world, claim_all, completed, failed, hold_aside
from tests.integration.sources.writing import PATIENCE, claim_everything, writing

from flowworker.database.connection import Connection, connect
from flowworker.database.link import Limits
from flowworker.database.local_server import LocalServer
from flowworker.database.records import ClaimedTask, Completed, Outcome, SourceKind, TaskResult, Verdict
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.loops.quarantine import MOST_BYTES, MOST_TRIES
from flowworker.runtime.loops.settlement import Settlement
from flowworker.runtime.source import Trouble
from flowworker.telemetry.events import Event, TaskReleased, WorkerInfo

mail = Queue("mail", max_attempts=3, base_delay=0, timeout=20)

HOLD = {
    "flow": "SELECT 1 FROM pgflow.runs WHERE run_id = $1 FOR UPDATE",
    "queue": "SELECT 1 FROM pgmq.q_mail WHERE msg_id = $1 FOR UPDATE",
}


@asynccontextmanager
async def locked(world: World, statement: str, *arguments: object) -> AsyncGenerator[Connection]:
    """An application's transaction that stays open."""
    connection = await world.database.connect()
    try:
        async with connection.transaction():
            await connection.execute(statement, *arguments)
            yield connection
    finally:
        await connection.close()


def one(_: ClaimedTask) -> Outcome:
    return completed(1)


async def test_60_results_at_200_ms_of_latency_one_of_them_refused_are_all_settled_in_few_statements(
    world: World,
) -> None:
    await world.create(root_map)
    run_id = await world.start("root_map", list(range(60)))
    async with (
        Proxy(world.database.server.port) as proxy,
        writing(world, root_map, dsn=proxy.dsn(world.database.worker_dsn)) as made,
    ):
        tasks = await claim_everything(made.source)
        assert len(tasks) == 60
        proxy.latency = 0.1
        begun = proxy.begun
        refused = Completed(output=b'"\\u0000"', duration=0.1)
        made.submit(tasks, lambda task: refused if task.task_index == 37 else completed(1))
        await made.until_settled(60)
        assert list(made.verdicts().values()).count(Verdict.COMPLETED) == 59
        assert proxy.begun - begun < 40  # row by row it was more than 120
    row = await world.task(run_id, "element", 37)
    assert (row["status"], row["attempts_count"]) == ("queued", 1)
    assert "the database refused the output" in row["error_message"]


@pytest.mark.parametrize("outcome", [completed(1), failed()], ids=["completed", "failed"])
async def test_a_locked_run_holds_up_its_own_results_only(world: World, outcome: Outcome) -> None:
    await world.create(one_step)
    runs = [await world.start("one_step", n) for n in range(30)]
    async with writing(world, one_step) as made:
        tasks = await claim_everything(made.source)
        async with locked(world, HOLD["flow"], runs[7]):
            made.submit(tasks, lambda _: outcome)
            await made.until_settled(29)
            assert {receipt.result.task.run_id for receipt in made.receipts} == {*runs} - {runs[7]}
            assert made.completer.unwritten == 1
            assert made.completer.oldest_unwritten is not None
            assert not await made.completer.flush(0.01)
        await made.until_settled(30)
        assert await made.completer.flush(5)
        assert made.completer.oldest_unwritten is None


async def test_new_results_of_a_locked_run_do_not_go_where_the_others_are_written(world: World) -> None:
    await world.create(root_map)
    await world.create(one_step)
    run_id = await world.start("root_map", list(range(10)))
    other = await world.start("root_map", [1])
    async with writing(world, root_map) as made:
        tasks = await claim_everything(made.source)
        held = [task for task in tasks if task.run_id == run_id]
        async with locked(world, HOLD["flow"], run_id):
            made.submit(held[:3], one)
            async with asyncio.timeout(20):
                while not made.errors:  # noqa: ASYNC110 - a condition with a deadline
                    await asyncio.sleep(0.01)
            made.submit(held[3:], one)
            made.submit([task for task in tasks if task.run_id == other], one)
            await made.until_settled(1)
            assert [receipt.result.task.run_id for receipt in made.receipts] == [other]
        await made.until_settled(11)
        assert set(made.verdicts().values()) == {Verdict.COMPLETED}
    assert (await world.run(run_id))[0] == "completed"


@pytest.mark.parametrize("workload", [one_step, mail], ids=["flow", "queue"])
async def test_results_of_what_was_locked_do_not_wait_for_the_claim_of_another_flow(
    world: World, workload: Flow | Queue
) -> None:
    match workload:
        case Flow():
            await world.create(workload)
            locked_one: object = await world.start("one_step")
            hold = HOLD["flow"]
        case Queue():
            await world.owner.execute("SELECT pgmq.create('mail')")
            locked_one, hold = await world.send("mail", 1), HOLD["queue"]
    async with writing(world, workload) as made:
        tasks = await claim_everything(made.source)
        async with locked(world, hold, locked_one):
            made.submit(tasks, one)
            await until(lambda: made.errors, "the lock is met")
            others_claim = asyncio.create_task(hold_aside(made.source))
            errors = len(made.errors)
            await until(lambda: len(made.errors) > errors + 2, "it is looked at again")
        await made.until_settled(1)
        assert not others_claim.done()
        others_claim.cancel()
        await asyncio.wait({others_claim})
        assert set(made.verdicts().values()) == {Verdict.COMPLETED}


async def test_a_huge_result_goes_before_the_claims_that_wait_for_the_connection_aside(world: World) -> None:
    await world.create(one_step)
    await world.start("one_step")
    async with writing(world, one_step) as made:
        tasks = await claim_everything(made.source)
        links = made.source._links  # pyright: ignore[reportPrivateUsage]
        aside_turns = links.aside._turns  # pyright: ignore[reportPrivateUsage]
        freed, claims = asyncio.Event(), list[int]()

        async def claim(number: int) -> None:
            await freed.wait()
            claims.append(number)
            assert number == 0 or made.receipts

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(links.aside.run(lambda _, number=number: claim(number)))
            await until(lambda: links.aside.busy, "the first one has it")
            made.submit(tasks, lambda _: Completed(output=b'"' + b"x" * (MOST_BYTES + 1) + b'"', duration=0.1))
            await until(
                lambda: aside_turns._urgent,  # pyright: ignore[reportPrivateUsage]
                "the result waits as well",
            )
            freed.set()
        assert claims == [0, 1, 2]
        await made.until_settled(1)


@pytest.mark.parametrize("outcome", [completed(1), failed()], ids=["archive", "put back"])
async def test_a_locked_job_holds_up_nothing_but_itself(world: World, outcome: Outcome) -> None:
    await world.owner.execute("SELECT pgmq.create('mail')")
    ids = [await world.send("mail", n) for n in range(30)]
    async with writing(world, mail) as made:
        jobs = await claim_everything(made.source)
        async with locked(world, HOLD["queue"], ids[7]):
            made.submit(jobs, lambda _: outcome)
            await made.until_settled(29)
            assert {*made.verdicts()} == {*ids} - {ids[7]}
        await made.until_settled(30)
    assert Verdict.SUPERSEDED not in made.verdicts().values()


async def test_a_table_locked_as_a_whole_loses_no_result(world: World) -> None:
    await world.create(one_step)
    for n in range(10):
        await world.start("one_step", n)
    async with writing(world, one_step) as made:
        tasks = await claim_everything(made.source)
        async with locked(world, "LOCK TABLE pgflow.step_tasks IN ACCESS EXCLUSIVE MODE"):
            made.submit(tasks, one)
            async with asyncio.timeout(20):
                while not made.errors:  # noqa: ASYNC110 - a condition with a deadline
                    await asyncio.sleep(0.01)
        await made.until_settled(10)
    assert set(made.verdicts().values()) == {Verdict.COMPLETED}


SLOW = """
    CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_catalog.pg_sleep({seconds}); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE UPDATE ON pgflow.step_tasks FOR EACH ROW
    WHEN (length(NEW.output::text) > 1000 AND OLD.output IS NULL) EXECUTE FUNCTION public.slow();
"""
SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
HUGE = completed("x" * 2000)


async def test_twelve_results_that_take_longer_than_a_batch_may_are_written_one_by_one(world: World) -> None:
    await world.create(one_step)
    await world.owner.execute(SLOW.format(seconds=0.7))
    for n in range(42):
        await world.start("one_step", n)
    async with writing(world, one_step, limits=Limits(statement=0.5, lock=0.3)) as made:
        tasks = await claim_everything(made.source)
        made.submit(tasks, lambda task: HUGE if task.msg_id % 3 == 0 and task.msg_id < 37 else completed(1))
        await made.until_settled(42)
    assert set(made.verdicts().values()) == {Verdict.COMPLETED}


async def test_a_write_that_no_limit_suffices_for_fails_its_attempt_with_the_words_of_the_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowworker.runtime.loops.quarantine.SHORTEST_STATEMENT", 0.2)
    monkeypatch.setattr("flowworker.runtime.loops.quarantine.LONGEST_STATEMENT", 0.2)
    monkeypatch.setattr("flowworker.runtime.loops.quarantine.LONGEST_LOCK", 0.1)
    monkeypatch.setattr("flowworker.runtime.loops.completer.MOST_TRIES", 3)
    await world.create(root_map)
    await world.owner.execute(SLOW.format(seconds=3))
    run_id = await world.start("root_map", [1, 2, 3])
    async with writing(world, root_map) as made:
        tasks = await claim_everything(made.source)
        made.submit(tasks, lambda task: HUGE if task.task_index == 1 else completed(1))
        await made.until_settled(3)
    assert [made.verdicts()[task.msg_id] for task in tasks] == [
        Verdict.COMPLETED, Verdict.RETRYING, Verdict.COMPLETED,
    ]  # fmt: skip
    message = (await world.task(run_id, "element", 1))["error_message"]
    assert message.startswith("the database refused the output: canceling statement due to statement timeout")


async def test_good_results_are_written_while_the_statement_of_a_slow_one_runs(world: World) -> None:
    await world.create(one_step)
    await world.owner.execute(SLOW.format(seconds=60))
    for n in range(32):
        await world.start("one_step", n)
    superuser = await connect(world.database.superuser_dsn, application_name="test")
    async with writing(world, one_step, limits=Limits(statement=20, lock=5)) as made:
        tasks = await claim_everything(made.source)
        made.submit(tasks[:2], lambda task: HUGE if task is tasks[0] else completed(1))
        await until(lambda: superuser.fetchval(SLEEPS), "the statement of the slow one runs")
        for task in tasks[2:]:
            made.submit([task], one)
            await made.until_settled(tasks.index(task) - 1, patience=5)
        assert made.completer.unwritten == 2
    await superuser.close()


ODD = """
    CREATE FUNCTION public.odd() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'an audit trigger says no' USING ERRCODE = 'Q1234'; END $$;
    CREATE TRIGGER odd BEFORE UPDATE ON pgflow.step_tasks FOR EACH ROW
    WHEN (NEW.output::text = '"odd"') EXECUTE FUNCTION public.odd();
"""


async def test_an_unknown_error_is_retried_and_then_fails_that_attempt_alone(world: World) -> None:
    await world.create(root_map)
    await world.owner.execute(ODD)
    run_id = await world.start("root_map", list(range(40)))
    async with writing(world, root_map) as made:
        tasks = await claim_everything(made.source)
        made.submit(tasks, lambda task: completed("odd" if task.task_index == 11 else 1))
        await made.until_settled(40)
    assert list(made.verdicts().values()).count(Verdict.COMPLETED) == 39
    assert "an audit trigger says no" in (await world.task(run_id, "element", 11))["error_message"]


async def test_results_wait_for_a_right_that_was_withdrawn_and_cost_no_attempt(world: World) -> None:
    await world.create(one_step)
    run_id = await world.start("one_step")
    async with writing(world, one_step) as made:
        (task,) = await claim_all(made.source)
        await world.owner.execute("REVOKE UPDATE ON pgflow.runs FROM flowworker_worker")
        made.submit([task], one)
        async with asyncio.timeout(PATIENCE):
            while len(made.errors) <= MOST_TRIES:  # noqa: ASYNC110 - a condition with a deadline
                await asyncio.sleep(0.01)
        assert all("permission denied" in error for error in made.errors)
        assert made.receipts == []
        await world.owner.execute("GRANT UPDATE ON pgflow.runs TO flowworker_worker")
        await made.until_settled(1)
        assert made.receipts[0].verdict is Verdict.COMPLETED
    assert (await world.run(run_id))[0] == "completed"


NOTHING = """
    CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'an audit trigger says no' USING ERRCODE = 'Q1234'; END $$;
    CREATE TRIGGER nothing BEFORE UPDATE ON pgflow.step_tasks FOR EACH ROW EXECUTE FUNCTION public.nothing();
"""


async def test_what_the_database_takes_in_no_form_is_left_and_runs_again(world: World) -> None:
    await world.create(one_step)
    run_id = await world.start("one_step")
    async with writing(world, one_step) as made:
        (task,) = await claim_all(made.source)
        await world.owner.execute(NOTHING)
        made.submit([task], one)
        await made.until_settled(1)
        assert made.receipts[0].verdict is Verdict.UNWRITTEN
        assert "an audit trigger says no" in (made.receipts[0].error or "")
        emitted: list[Event] = []
        worker = WorkerInfo(worker_id=uuid4(), worker_name="w", kind=SourceKind.FLOW, slug="one_step")
        Settlement(worker=worker, emit=emitted.append).of_receipt(HeldTask(task=task, claimed_at=0.0), made.receipts[0])
        assert [(type(event), getattr(event, "refused", None)) for event in emitted] == [(TaskReleased, True)]
        assert (await world.task(run_id, "only"))["status"] == "started"
        await world.owner.execute("DROP TRIGGER nothing ON pgflow.step_tasks")
        await made.source.claim(1, held=())
        (again,) = await claim_all(made.source)
        assert (again.run_id, again.attempt) == (run_id, 1)


ODD_HEADERS = [
    '{"flowworker": {"failures": 18446744073709551615, "releases": 18446744073709551615}}',
    '{"flowworker": {"failures": 18446744073709551616}}',
    '{"flowworker": {"failures": 1.5, "releases": -3}}',
    '{"flowworker": {"failures": [[{}]], "releases": {"a": null}}}',
    '{"flowworker": [1, {"failures": true}]}',
    '{"flowworker": "failures"}',
    "[1, 2]",
    '"text"',
    '{"trace": 1e400, "flowworker": {"failures": 1e400}}',
    '{"flowworker": ' + "[" * 2000 + "]" * 2000 + "}",
]


@pytest.mark.parametrize("kind", ["completed", "failed", "final"])
async def test_odd_headers_of_some_jobs_keep_no_job_from_its_end(world: World, kind: str) -> None:
    await world.owner.execute("SELECT pgmq.create('mail')")
    for text in ODD_HEADERS:
        await world.owner.execute("SELECT pgmq.send('mail', '1'::jsonb, $1::text::jsonb)", text)
    for n in range(100):
        await world.send("mail", n)
    outcome = {"completed": completed(1), "failed": failed(), "final": failed(final=True)}[kind]
    async with writing(world, mail) as made:
        jobs = await claim_everything(made.source)
        assert len(jobs) >= 100 + len(ODD_HEADERS) - 2  # a claim parks what cannot be read
        made.submit(jobs, lambda _: outcome)
        await made.until_settled(len(jobs))
    wanted = {
        "completed": {Verdict.COMPLETED},
        "failed": {Verdict.RETRYING, Verdict.FAILED},  # a huge count of failures leaves no attempt
        "final": {Verdict.FAILED},
    }[kind]
    assert set(made.verdicts().values()) == wanted


@pytest.fixture
async def latin_world(postgres: LocalServer) -> AsyncIterator[World]:
    """A database whose encoding lacks most letters of the world."""
    name = f"latin_{uuid4().hex[:12]}"
    admin = await connect(postgres.dsn(), application_name="test")
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 OWNER {OWNER_ROLE}")
        database = Database(postgres, name)
        await install_everything(database)
        async with a_world(database) as made:
            yield made
        await drop_database(database)
    finally:
        await admin.close()


async def test_an_error_text_the_encoding_lacks_is_stored_in_ascii_and_its_attempt_is_charged(
    latin_world: World,
) -> None:
    world = latin_world
    await world.create(one_step)
    run_id = await world.start("one_step")
    await world.owner.execute("SELECT pgmq.create('mail')")
    job = await world.send("mail", 1)
    async with writing(world, one_step) as flows, writing(world, mail) as jobs:
        flows.submit(await claim_all(flows.source), lambda _: failed("kaputt \N{PARTY POPPER}"))
        jobs.submit(await claim_all(jobs.source), lambda _: failed("kaputt \N{PARTY POPPER}"))
        await flows.until_settled(1)
        await jobs.until_settled(1)
    assert [made.receipts[0].verdict for made in (flows, jobs)] == [Verdict.RETRYING] * 2
    assert (await world.task(run_id, "only"))["error_message"] == "kaputt \\U0001f389"
    ours = (await world.headers("mail", job))["flowworker"]
    assert (ours["failures"], ours["error"]) == (1, "kaputt \\U0001f389")


@pytest.mark.parametrize("letter", ["\N{PARTY POPPER}", "\ud800", "\0"])
async def test_no_letter_of_an_error_costs_a_heartbeat(world: World, latin_world: World, letter: str) -> None:
    for where in (world, latin_world):
        worker_id = uuid4()
        await where.register(worker_id, slug="mail", kind=SourceKind.QUEUE, worker_name=f"mail {letter}")
        await where.beat(worker_id, slug="mail", kind=SourceKind.QUEUE, last_error=f"kaputt {letter}")
        shown = await where.owner.fetchval("SELECT last_error FROM flowworker.workers WHERE worker_id = $1", worker_id)
        assert shown.startswith("kaputt ")


async def test_an_output_the_encoding_lacks_fails_its_attempt_and_says_so(latin_world: World) -> None:
    await latin_world.create(one_step)
    run_id = await latin_world.start("one_step")
    async with writing(latin_world, one_step) as made:
        made.submit(await claim_everything(made.source), lambda _: completed("\N{PARTY POPPER}"))
        await made.until_settled(1)
    assert made.receipts[0].verdict is Verdict.RETRYING
    assert "LATIN1" in (await latin_world.task(run_id, "only"))["error_message"]


async def test_rows_of_every_kind_count_as_locked_only_while_the_fence_holds(world: World) -> None:
    """A result that SKIP LOCKED leaves out is superseded where the database shows it, and kept where it does not."""
    await world.create(one_step)
    runs = [await world.start("one_step", n) for n in range(3)]
    async with writing(world, one_step) as made:
        tasks = {task.run_id: task for task in await claim_everything(made.source)}
        await world.owner.execute("UPDATE pgflow.step_tasks SET attempts_count = 2 WHERE run_id = $1", runs[1])
        async with locked(world, HOLD["flow"], runs[0]):
            finish = await made.source.finish([TaskResult(task=tasks[run], outcome=completed(1)) for run in runs])
            assert [receipt.verdict for receipt in finish.receipts] == [Verdict.SUPERSEDED, Verdict.COMPLETED]
            assert [(one.result.task.run_id, one.trouble) for one in finish.unsettled] == [(runs[0], Trouble.LOCKED)]
