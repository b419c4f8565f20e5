"""Bad input: each is refused where it enters, or costs one attempt; nothing else suffers."""

from typing import Any
from uuid import uuid4

import orjson
import pytest
from pydantic import BaseModel
from testkit.support.waiting import until
from tests.acceptance.served import serving
from tests.acceptance.support import Stage
from tests.integration.cli.calling import Cli

from flowworker import DefinitionError, Flow, InputError, Queue
from flowworker.database.jobs_admin import JobState
from flowworker.database.records import FailureKind, RunStatus
from flowworker.errors import ExitCode, ShapeMismatchError, UnknownFlowError, UnknownQueueError
from flowworker.telemetry.events import TaskFailed, TaskStarted, WorkerStarted


class Order(BaseModel):
    item: str
    amount: int


async def test_unknown_flow_or_queue(stage: Stage, cli: Cli) -> None:
    flow, queue = Flow("nowhere"), Queue("nowhere_jobs")

    @flow.step
    async def only(_: int) -> None: ...

    @queue.job
    async def work(_: int) -> None: ...

    for workload, error, remedy in (
        (flow, UnknownFlowError, r"no flow 'nowhere'.*`flowworker flows compile`"),
        (queue, UnknownQueueError, r"no queue 'nowhere_jobs'.*SELECT pgmq.create\('nowhere_jobs'\)"),
    ):
        worker = stage.worker(workload, compile="verify")
        with pytest.raises(error, match=remedy):
            await worker.start()
        assert (await worker.wait()).code is ExitCode.DATA
    assert stage.heard.of(WorkerStarted) == []
    with pytest.raises(UnknownFlowError, match="nowhere"):
        await stage.client.start("nowhere", 1)
    with pytest.raises(UnknownQueueError, match="nowhere_jobs"):
        await stage.client.send("nowhere_jobs", 1)
    for reference, remedy in (
        ("program:greeting", "flowworker flows compile"),
        ("program:naps", "pgmq.create('naps')"),
    ):
        answer = await cli("run", reference, "--compile", "verify")
        assert (answer.code, answer.out) == (65, "")
        assert remedy in answer.err
        assert "Traceback" not in answer.err


async def test_handler_path_that_does_not_import(cli: Cli) -> None:
    (cli.folder / "raises.py").write_text("import program\n\n1 / 0\n")
    for reference, message in (
        ("absent:flow", "no module 'absent'"),
        ("program:greetings", "did you mean 'greeting'"),
        ("program:not_a_flow", "neither a Flow nor a Queue"),
        ("raises:flow", "raises.py:3"),
    ):
        answer = await cli("run", reference)
        assert (answer.code, answer.out) == (66, "")
        assert message in answer.err


async def test_shape_differing_from_the_database_lists_the_differences_and_ends_with_65(stage: Stage, cli: Cli) -> None:
    await stage.owner.execute("""
        SELECT pgflow.create_flow('greeting');
        SELECT pgflow.add_step('greeting', 'hello', step_type => 'map');
        SELECT pgflow.add_step('greeting', 'goodbye', ARRAY['hello']);
    """)
    answer = await cli("run", "program:greeting")
    assert (answer.code, answer.out) == (65, "")
    assert "flow 'greeting' differs" in answer.err
    assert "step 'goodbye' is only in the database" in answer.err
    assert "'hello'" in answer.err
    assert "map" in answer.err
    flow = Flow("greeting")

    @flow.step
    async def hello(name: str) -> str:
        return name

    @flow.step
    async def thanks(hello: str) -> str:
        return hello

    with pytest.raises(ShapeMismatchError) as refused:
        await stage.worker(flow).start()
    assert len(refused.value.differences) == 3
    assert await stage.owner.fetchval("SELECT count(*) FROM pgflow.steps WHERE flow_slug = 'greeting'") == 2


async def test_slug_too_long_reserved_or_upper_case_with_notify(stage: Stage) -> None:
    async def handler(_: int) -> None: ...

    for make, rule in (
        (lambda: Flow("f" * 48), "48 characters"),
        (lambda: Queue("q" * 48), "48 characters"),
        (lambda: Flow("run"), "reserved"),
        (lambda: Flow("fine").step(slug="run")(handler), "reserved"),
        (lambda: Flow("fine").step(slug="s" * 129)(handler), "129 characters"),
        (lambda: Flow("my-flow"), "letters, digits and underscores"),
        (lambda: Flow("1st"), "not start with a digit"),
    ):
        with pytest.raises(DefinitionError, match=rule) as refused:
            make()
        assert "test_bad_input.py:" in str(refused.value)

    longest, capital = Flow("f" * 47, max_attempts=1), Flow("Capital", max_attempts=1)
    longest.step(slug="only")(handler)
    capital.step(slug="only")(handler)
    await stage.create(longest, capital)
    async with stage.worker(longest), stage.worker(capital, signal_strategy="notify") as worker:
        assert (await stage.finish(longest, 1)).status is RunStatus.COMPLETED
        await until(lambda: worker.state().signal.degraded, "a worker that knows it cannot listen")
        assert "capitals" in (worker.state().signal.degraded or "")
        assert (await stage.finish(capital, 1)).status is RunStatus.COMPLETED


async def test_payload_that_fails_validation_fails_that_attempt_and_names_the_field(stage: Stage) -> None:
    handled: list[Any] = []
    flow, queue = Flow("orders", max_attempts=2, base_delay=0), Queue("order_jobs", max_attempts=2, base_delay=0)

    @flow.step
    async def take(order: Order) -> int:
        handled.append(order)
        return order.amount

    @queue.job
    async def work(order: Order) -> int:
        handled.append(order)
        return order.amount

    bad, good = {"item": "tea", "amount": "lots"}, {"item": "tea", "amount": 2}
    await stage.create(flow, queue)
    async with stage.pool([flow, queue]):
        run, job = await stage.finish(flow, bad), await stage.do(queue, bad)
        assert run.status is RunStatus.FAILED
        assert job.state is JobState.FAILED
        assert "amount" in (run.error or "")
        assert "amount" in (job.error or "")
        assert (await stage.finish(flow, good)).output == {"take": 2}
        assert (await stage.do(queue, good)).result == 2
    assert handled == [Order(item="tea", amount=2)] * 2
    assert {event.failure.kind for event in stage.heard.of(TaskFailed)} == {FailureKind.INPUT}
    with pytest.raises(InputError, match="amount"):
        await stage.client.start(flow, bad)
    with pytest.raises(InputError, match="amount"):
        await stage.client.send(queue, bad)


async def test_output_that_is_not_json(stage: Stage) -> None:
    flow, queue = Flow("odd", max_attempts=1), Queue("odd_jobs", max_attempts=1)
    outputs: dict[str, Any] = {
        "nan": {"deep": [1.5, float("nan")]},
        "infinity": float("inf"),
        "zero": "a\0b",
        "object": {"handle": object()},
        "surrogate": "\ud800",
        "fine": {"a": 1},
    }

    @flow.step
    async def give(which: str) -> Any:
        return outputs[which]

    @queue.job
    async def work(which: str) -> Any:
        return outputs[which]

    await stage.create(flow, queue)
    async with stage.pool([flow, queue]):
        for which in outputs:
            run, job = await stage.finish(flow, which), await stage.do(queue, which)
            ok = which == "fine"
            assert (run.status, job.state) == (
                (RunStatus.COMPLETED, JobState.DONE) if ok else (RunStatus.FAILED, JobState.FAILED)
            )
            if not ok:
                assert "output" in (run.error or "")
                assert job.error
    failed = stage.heard.of(TaskFailed)
    assert {event.failure.kind for event in failed} == {FailureKind.OUTPUT}
    assert len(failed) == 2 * (len(outputs) - 1)
    deep = next(event for event in failed if event.task.input == b'"nan"' or event.task.flow_input == b'"nan"')
    assert "deep" in deep.failure.message


async def test_output_of_ten_megabytes(stage: Stage) -> None:
    flow, queue = Flow("large", max_attempts=1, timeout=60), Queue("large_jobs", max_attempts=1, timeout=60)
    size = 10_000_000

    @flow.step
    async def give(_: int) -> str:
        return "x" * size

    @flow.step
    async def take(give: str) -> int:
        return len(give)

    @queue.job
    async def work(_: int) -> str:
        return "x" * size

    await stage.create(flow, queue)
    async with stage.pool([flow, queue]):
        run, job = await stage.start(flow, 1), await stage.send(queue, 1)
        assert (await stage.ended(run, patience=40)).output == {"take": size}
        assert len((await stage.job_over(queue, job, patience=40)).result) == size


async def test_a_foreign_message_in_the_queue(stage: Stage) -> None:
    flow = Flow("visited", max_attempts=1, timeout=30)

    @flow.step
    async def only(value: int) -> int:
        return value

    await stage.create(flow)
    unknown_run = str(uuid4())
    foreign = [
        {"flow_slug": "visited", "run_id": unknown_run, "step_slug": "only", "task_index": 0},
        {"flow_slug": "visited", "run_id": unknown_run, "step_slug": "no_such_step", "task_index": 0},
        {"run_id": "no uuid", "step_slug": "only"},
        {"hello": "world"},
        ["a", "list"],
        "a string",
        7,
        None,
    ]
    ids = [
        await stage.owner.fetchval("SELECT * FROM pgmq.send('visited', $1::jsonb)", orjson.dumps(message))
        for message in foreign
    ]
    async with stage.worker(flow, max_concurrency=4, batch_size=4) as worker:
        runs = [await stage.start(flow, number) for number in range(10)]
        for number, run in enumerate(runs):
            assert (await stage.ended(run)).output == {"only": number}
        assert {event.task.run_id for event in stage.heard.of(TaskStarted)} == set(runs)
        await until(lambda: worker.state().free_slots == 4, "free slots")
    # Nothing foreign was run, and nothing that could be work was destroyed.
    kept = await stage.owner.fetchval(
        """SELECT count(*) FROM (SELECT msg_id FROM pgmq.q_visited UNION SELECT msg_id FROM pgmq.a_visited) AS found
           WHERE msg_id = ANY($1)""",
        ids,
    )
    assert kept == len(foreign)


CURIOUS = """
from flowworker import Queue, TaskContext

users = Queue("users", max_attempts=1)

@users.job
async def work(number: int, ctx: TaskContext) -> dict[str, object]:
    return dict(ctx.message.headers)
"""


@pytest.mark.parametrize("value", ["1e400", "[" * 1500 + "]" * 1500, "9" * 5000], ids=["large", "deep", "long"])
async def test_headers_that_no_json_library_reads_are_none_to_the_handler(stage: Stage, cli: Cli, value: str) -> None:
    async with serving(stage, cli, CURIOUS) as served:
        job = await stage.owner.fetchval("SELECT pgmq.send('users', '1'::jsonb, $1::text::jsonb)", f'{{"x": {value}}}')
        assert (await served.over(job)).result == {}
        await served.stopped()
