"""What the Elixir workers do wrong, and this worker must not."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from testkit.support.waiting import hold_for, until
from tests.acceptance.handlers import crashing
from tests.acceptance.support import SLOW, Gate, Stage, clear, elsewhere, make_stage
from tests.conftest import Database

from flowworker import Client, Flow, Queue
from flowworker.database.jobs_admin import JobState
from flowworker.database.records import FailureKind, RunStatus
from flowworker.telemetry.events import PollStarted, PollStopped, TaskFailed, TaskStarted

REFUSE = """
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql
        AS $$BEGIN RAISE 'no room for it' USING ERRCODE = 'disk_full'; END$$;
    CREATE TRIGGER refuse BEFORE UPDATE ON pgflow.step_tasks FOR EACH ROW
        WHEN (new.status = 'completed') EXECUTE FUNCTION public.refuse();
    CREATE TRIGGER refuse BEFORE INSERT ON pgmq.a_undeleted_jobs EXECUTE FUNCTION public.refuse();
"""
"""Makes every completion fail in the database, as a full disk does."""

ALLOW = "DROP TRIGGER refuse ON pgflow.step_tasks; DROP TRIGGER refuse ON pgmq.a_undeleted_jobs"

FALSY: list[Any] = [None, False, 0, 0.0, "", [], {}]


async def test_no_multiplying_timers(stage: Stage) -> None:
    flow = Flow("timers", max_attempts=1, timeout=30)

    @flow.step
    async def only(_: int) -> None: ...

    await stage.create(flow)
    await stage.announce("timers")
    pace = {"min_poll_interval": 0.5, "max_poll_interval": 0.5}
    for options in (pace, {"signal_strategy": "notify", "notify_fallback_interval": 0.5, **pace}):
        async with stage.worker(flow, **options) as worker:
            if "signal_strategy" in options:
                await stage.listening(worker)
            runs = [await stage.start(flow, number) for number in range(30)]  # each may wake, none may add a timer
            for run in runs:
                await stage.ended(run)
            await hold_for(0.5)  # the last announcement's trailing poll
            polls = len(stage.heard.of(PollStarted))
            await hold_for(3)
            assert 1 <= len(stage.heard.of(PollStarted)) - polls <= 7


async def test_no_message_deleted_when_the_completion_failed(stage: Stage) -> None:
    runs: list[str] = []
    flow, queue = Flow("undeleted", max_attempts=3, timeout=60), Queue("undeleted_jobs", timeout=60)

    @flow.step
    async def only(_: int) -> str:
        runs.append("task")
        return "not lost"

    @queue.job
    async def work(_: int) -> str:
        runs.append("job")
        return "not lost"

    await stage.create(flow, queue)
    await stage.owner.execute(REFUSE)
    async with stage.pool([flow, queue]) as pool:
        run, job = await stage.start(flow, 1), await stage.send(queue, 1)
        await until(lambda: all(one.state().unwritten_results for one in pool.workers), "results that are refused")
        for table in ("undeleted", "undeleted_jobs"):
            assert await stage.owner.fetchval(f"SELECT count(*) FROM pgmq.q_{table}") == 1
            assert await stage.owner.fetchval(f"SELECT count(*) FROM pgmq.a_{table}") == 0
        await stage.owner.execute(ALLOW)
        assert (await stage.ended(run, patience=40)).output == {"only": "not lost"}
        assert (await stage.job_over(queue, job, patience=40)).result == "not lost"
    assert sorted(runs) == ["job", "task"]


async def test_no_task_claimed_beyond_free_slots(stage: Stage) -> None:
    gate = Gate()
    flow, queue = Flow("slots", max_attempts=1, timeout=60), Queue("slots_jobs", timeout=60)

    @flow.map
    async def each(_: int) -> None:
        await gate.pass_through()

    @queue.job
    async def work(_: int) -> None:
        await gate.pass_through()

    await stage.create(flow, queue)
    run = await stage.start(flow, list(range(12)))
    jobs = [await stage.send(queue, number) for number in range(12)]
    async with stage.pool([flow, queue], max_concurrency=2, batch_size=10) as pool:
        await until(lambda: all(one.state().free_slots == 0 for one in pool.workers), "full workers")
        stage.heard.events.clear()
        await hold_for(0.5)  # several pauses of their polling
        for table in ("slots", "slots_jobs"):
            assert await stage.owner.fetchval(f"SELECT count(*) FROM pgmq.q_{table} WHERE read_ct > 0") == 2
        assert await stage.owner.fetchval("SELECT count(*) FROM pgflow.step_tasks WHERE status = 'started'") == 2
        assert stage.heard.of(PollStopped) == []
        gate.release.set()
        assert (await stage.ended(run)).status is RunStatus.COMPLETED
        assert {(await stage.job_over(queue, job)).state for job in jobs} == {JobState.DONE}
    assert max(poll.task_count for poll in stage.heard.of(PollStopped)) <= 2


async def test_no_notify_disabled_for_others_on_exit(stage: Stage) -> None:
    flow = Flow("shared_trigger", max_attempts=1, timeout=30)

    @flow.step
    async def only(value: int) -> int:
        return value

    await stage.create(flow)
    await stage.announce("shared_trigger")
    async with stage.worker(flow, signal_strategy="notify", worker_name="stays", **SLOW) as stays:
        await stage.listening(stays)
        # The owner's rights are enough to remove the trigger: it must not want to.
        leaves = stage.worker(flow, signal_strategy="notify", dsn=stage.database.dsn, worker_name="leaves", **SLOW)
        async with leaves:
            await stage.listening(leaves)
        stage.heard.events.clear()
        assert (await stage.finish(flow, 3)).output == {"only": 3}
        assert [event.worker.worker_name for event in stage.heard.of(TaskStarted)] == ["stays"]


@pytest.mark.parametrize("catalogue", ["0.8", "0.12", "0.17"], indirect=True)
async def test_no_positional_decoding(catalogue: Database) -> None:
    """The cores differ in the columns of their records and in their order; and parameters have names."""
    flow = Flow("named", max_attempts=1, timeout=30)

    @flow.step
    async def price(order: dict[str, int]) -> int:
        return order["price"]

    @flow.step
    async def name(order: dict[str, int]) -> str:
        return f"{len(order)} fields"

    @flow.step
    async def line(name: str, order: dict[str, int], price: int) -> dict[str, Any]:
        return {"price": price, "name": name, "count": order["count"]}

    stage = await make_stage(catalogue)
    await stage.create(flow)
    async with stage.worker(flow):
        run = await stage.start(flow, {"price": 5, "count": 3})
        assert (await stage.ended(run)).output == {"line": {"price": 5, "name": "2 fields", "count": 3}}
    started = {event.task.step_slug: event.task for event in stage.heard.of(TaskStarted)}
    assert {task.run_id for task in started.values()} == {run}
    assert {(task.attempt, task.max_attempts, task.timeout, task.task_index) for task in started.values()} == {
        (1, 1, 30.0, 0)
    }
    await clear(stage)


async def test_no_heartbeat_starved_by_a_long_task(stage: Stage) -> None:
    flow = Flow("long", max_attempts=1, timeout=60)

    @flow.step
    async def block(_: int) -> str:
        time.sleep(8)  # noqa: ASYNC251 - nothing else on the loop runs meanwhile
        return "done"

    async def beats() -> set[datetime]:
        """When the worker reported while its task ran, seen from a loop that is not blocked."""
        seen: set[datetime] = set()
        async with Client(stage.database.worker_dsn) as client:
            run = await client.start(flow, 1)
            while (await client.run(run.run_id)).run.status is RunStatus.STARTED:
                seen.update(one.reported_at for one in await client.workers())
                await asyncio.sleep(0.1)
        return seen

    await stage.create(flow)
    async with stage.worker(flow):
        seen = await elsewhere(beats)
    assert len(seen) >= 3  # every 3 s, and the task takes 8


async def test_timeouts_and_crashes_do_emit_task_exception(stage: Stage) -> None:
    flow = Flow("ending_badly", max_attempts=1, timeout=1)

    @flow.step
    async def end(how: str) -> None:
        if how == "timeout":
            await asyncio.Event().wait()
        raise {"exception": ValueError("as usual"), "crash": SystemExit(3)}[how]

    await stage.create(flow, crashing)
    async with stage.pool([flow, crashing]):
        runs = {how: await stage.start(flow, how) for how in ("timeout", "exception", "crash")}
        runs["killed"] = await stage.start(crashing, 1)
        for run in runs.values():
            assert (await stage.ended(run)).status is RunStatus.FAILED
        await until(lambda: len(stage.heard.of(TaskFailed)) == 4, "four events")
    failures = {event.task.run_id: event for event in stage.heard.of(TaskFailed)}
    assert {how: failures[run].failure.kind for how, run in runs.items()} == {
        "timeout": FailureKind.TIMEOUT,
        "exception": FailureKind.EXCEPTION,
        "crash": FailureKind.EXIT,
        "killed": FailureKind.EXIT,
    }
    assert all(event.duration > 0 and event.retry_in is None for event in failures.values())
    assert failures[runs["timeout"]].duration >= 1


async def test_falsy_outputs_survive(stage: Stage) -> None:
    flow, queue = Flow("falsy", max_attempts=1, timeout=30), Queue("falsy_jobs", timeout=30)

    @flow.step
    async def given(index: int) -> Any:
        return FALSY[index]

    @flow.step
    async def wrapped(given: Any) -> list[Any]:
        return [given]

    each = Flow("falsy_map", max_attempts=1, timeout=30)

    @each.map
    async def same(value: Any) -> Any:
        return value

    @queue.job
    async def give(index: int) -> Any:
        return FALSY[index]

    exactly: Callable[[Any], str] = repr  # False == 0, but they are not the same output
    await stage.create(flow, each, queue)
    async with stage.pool([flow, each, queue]):
        for index, value in enumerate(FALSY):
            run = await stage.finish(flow, index)
            assert exactly(run.output) == exactly({"wrapped": [value]})
            steps = {step.step_slug: step for step in (await stage.client.run(run.run_id)).steps}
            assert steps["given"].status == "completed"
            job = await stage.do(queue, index)
            assert (job.state, exactly(job.result)) == (JobState.DONE, exactly(value))
        assert exactly((await stage.finish(each, FALSY)).output) == exactly({"same": FALSY})
        assert (await stage.finish(each, [])).output == {"same": []}
