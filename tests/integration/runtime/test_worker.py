"""A worker on a real database: flows, handlers of all kinds, and handlers that misbehave."""

import asyncio
import os
import signal
import sys
import threading
import time
from typing import Any

import orjson
import pytest
from testkit.support.waiting import until
from tests.integration.runtime import handlers
from tests.integration.runtime.conftest import World

from flowworker.database.records import FailureKind, SourceKind
from flowworker.definition.context import TaskContext
from flowworker.definition.flow import Flow
from flowworker.definition.outcomes import Fail, Retry
from flowworker.errors import ExitCode, LifecycleError, UsageError
from flowworker.runtime.exits import SlotsExhaustedError
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.telemetry.events import (
    LifecycleChanged,
    LoopBlocked,
    PollStarted,
    PollStopped,
    RunCompleted,
    RunFailed,
    TaskFailed,
    TaskReleased,
    TaskStarted,
    TaskStopped,
    WorkerStarted,
    WorkerStopped,
)
from flowworker.worker_options import Strategy


async def test_a_flow_of_single_and_map_steps_completes(world: World) -> None:
    flow = Flow("lengths", max_attempts=2, base_delay=1, timeout=10)

    @flow.step
    async def words(text: str) -> list[str]:
        return text.split()

    @flow.map(over=words)
    async def length(word: str) -> int:
        return len(word)

    @flow.step
    async def total(length: list[int]) -> dict[str, int]:
        return {"sum": sum(length)}

    await world.create(flow)
    async with world.worker(flow):
        run = await world.start_run(flow, "four score and seven")
        assert await world.ended(run) == ("completed", {"total": {"sum": 17}})


async def test_a_task_and_its_run_are_events(world: World) -> None:
    flow = Flow("told", max_attempts=1, timeout=10)

    @flow.step
    async def only(value: int) -> int:
        return value + 1

    await world.create(flow)
    async with world.worker(flow) as worker:
        run = await world.start_run(flow, 1)
        await world.ended(run)
        await until(lambda: world.heard.of(RunCompleted), "the run's end is an event")
    kinds = [type(event) for event in world.heard.events]
    assert kinds.index(WorkerStarted) < kinds.index(PollStarted) < kinds.index(TaskStarted)
    assert kinds.index(TaskStarted) < kinds.index(TaskStopped) < kinds.index(RunCompleted)
    assert kinds[-1] is WorkerStopped
    (stopped,) = world.heard.of(TaskStopped)
    assert (stopped.output, stopped.task.attempt, stopped.worker.worker_id) == (b"2", 1, worker.worker_id)
    assert sum(poll.task_count for poll in world.heard.of(PollStopped)) == 1
    (completed,) = world.heard.of(RunCompleted)
    assert (completed.run_id, completed.flow_slug) == (run, "told")
    moves = [(change.previous, change.current) for change in world.heard.of(LifecycleChanged)]
    assert moves == [
        ("starting", "running"),
        ("running", "draining"),
        ("draining", "stopping"),
        ("stopping", "stopped"),
    ]


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
async def test_falsy_outputs_survive(world: World, value: Any) -> None:
    flow = Flow("falsy", max_attempts=1, timeout=10)

    @flow.step
    async def give(_: int) -> Any:
        return value

    await world.create(flow)
    async with world.worker(flow):
        assert await world.ended(await world.start_run(flow, 1)) == ("completed", {"give": value})


async def test_a_failing_handler_is_tried_again_then_fails_the_run(world: World) -> None:
    flow = Flow("hopeless", max_attempts=2, base_delay=0, timeout=10)

    @flow.step
    async def fall(_: int) -> int:
        raise ValueError("no luck")

    await world.create(flow)
    async with world.worker(flow):
        run = await world.start_run(flow, 1)
        assert (await world.ended(run))[0] == "failed"
        await until(lambda: world.heard.of(RunFailed), "the run's end is an event")
    failures = world.heard.of(TaskFailed)
    assert [failure.task.attempt for failure in failures] == [1, 2]
    assert failures[0].retry_in == 0
    assert failures[1].retry_in is None
    assert failures[0].failure.message == "ValueError: no luck"
    assert "in fall" in (failures[0].failure.stacktrace or "")
    assert "flowworker/runtime" not in (failures[0].failure.stacktrace or "")
    assert (await world.task(run, "fall"))["error_message"].startswith("ValueError: no luck")
    assert "no luck" in world.heard.of(RunFailed)[0].error


async def test_a_handler_chooses_its_delay_or_to_fail_for_good(world: World) -> None:
    flow = Flow("choosy", max_attempts=5, base_delay=60, timeout=10)

    @flow.step
    async def choose(_: int, ctx: TaskContext) -> int:
        if ctx.attempt == 1:
            raise Retry(after=0.2)
        raise Fail("enough")

    await world.create(flow)
    async with world.worker(flow):
        run = await world.start_run(flow, 1)
        assert (await world.ended(run))[0] == "failed"
    task = await world.task(run, "choose")
    assert task["error_message"] == "enough"


async def test_a_task_past_its_timeout_is_cancelled_and_fails(world: World) -> None:
    cancelled = asyncio.Event()
    flow = Flow("slow", max_attempts=1, timeout=1)

    @flow.step
    async def hang(_: int, ctx: TaskContext) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert ctx.cancelled.is_set()
            cancelled.set()
            raise

    await world.create(flow)
    async with world.worker(flow):
        run = await world.start_run(flow, 1)
        assert (await world.ended(run))[0] == "failed"
        assert cancelled.is_set()
        (failed,) = await until(lambda: world.heard.of(TaskFailed), "the failed attempt is an event")
    assert failed.failure.kind is FailureKind.TIMEOUT
    assert failed.failure.message == "Task timed out after 1s"
    assert "in hang" in (failed.failure.stacktrace or "")


async def test_a_timeout_changed_in_the_database_counts(world: World) -> None:
    flow = Flow("tuned", max_attempts=1, timeout=600)

    @flow.step
    async def hang(_: int) -> None:
        await asyncio.Event().wait()

    await world.create(flow)
    await world.owner.execute("UPDATE pgflow.flows SET opt_timeout = 1")
    async with world.worker(flow):
        assert (await world.ended(await world.start_run(flow, 1)))[0] == "failed"


async def test_options_that_the_database_has_otherwise_are_said_once_at_the_start(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow("tuned", timeout=30)

    @flow.step
    async def only(_: int) -> None: ...

    await world.create(flow)
    async with world.worker(flow) as worker:
        assert worker.state().option_changes == ()
        assert await reported_options(world) == [[]]
    assert "options" not in caplog.text
    await world.owner.execute("UPDATE pgflow.flows SET opt_timeout = 40")
    async with world.worker(flow) as worker:
        change = "timeout of the flow is 30 in the code, 40 in the database"
        assert worker.state().option_changes == (change,)
        reported = {"step": None, "option": "timeout", "code": 30, "database": 40}
        assert await reported_options(world) == [[], [reported]]
    (line,) = [record.getMessage() for record in caplog.records if "options in the database" in record.getMessage()]
    assert change in line
    assert "flows compile --update-options" in line


async def reported_options(world: World) -> list[object]:
    """What the workers there were have reported of options, the oldest first."""
    rows = await world.owner.fetch("SELECT option_changes::text AS changes FROM flowworker.workers ORDER BY started_at")
    return [orjson.loads(row["changes"]) for row in rows]


async def test_a_handler_that_swallows_its_cancellation_costs_its_slot_until_it_ends(world: World) -> None:
    release = asyncio.Event()
    flow = Flow("stubborn", max_attempts=1, timeout=1)

    @flow.step
    async def stay(_: int) -> int:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return 1

    await world.create(flow)
    async with world.worker(flow, max_concurrency=2) as worker:
        run = await world.start_run(flow, 1)
        assert (await world.ended(run))[0] == "failed"
        await until(lambda: worker.state().in_flight == 0, "nothing is in flight")
        state = worker.state()
        assert state.free_slots == 1
        assert [task.lingering for task in state.active_tasks] == [True]
        release.set()
        await until(lambda: worker.state().free_slots == 2, "the slot is free again")
    assert (await world.run(run))[0] == "failed"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), BaseException("odd"), asyncio.CancelledError()])
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_whatever_a_handler_raises_fails_its_attempt_only(world: World, error: BaseException, kind: str) -> None:
    flow = Flow("wild", max_attempts=1, timeout=10)

    async def raise_on_loop(value: int) -> int:
        if value:
            raise error
        return value

    def raise_in_thread(value: int) -> int:
        if value:
            raise error
        return value

    if kind == "async":
        flow.step(slug="go")(raise_on_loop)
    else:
        flow.step(slug="go")(raise_in_thread)
    await world.create(flow)
    async with world.worker(flow):
        bad = await world.start_run(flow, 1)
        assert (await world.ended(bad))[0] == "failed"
        good = await world.start_run(flow, 0)
        assert await world.ended(good) == ("completed", {"go": 0})


async def test_a_plain_function_runs_in_a_thread_of_its_own(world: World) -> None:
    flow = Flow("threads", max_attempts=1, timeout=10)

    @flow.step
    def where(_: int) -> bool:
        return threading.current_thread() is threading.main_thread()

    await world.create(flow)
    async with world.worker(flow):
        assert await world.ended(await world.start_run(flow, 1)) == ("completed", {"where": False})


async def test_threads_past_their_deadline_in_every_slot_end_the_worker_with_70(world: World) -> None:
    release = threading.Event()
    flow = Flow("stuck", max_attempts=1, timeout=1)

    @flow.step
    def stick(_: int) -> None:
        release.wait(30)

    await world.create(flow)
    worker = world.worker(flow, max_concurrency=1)
    await worker.start()
    try:
        run = await world.start_run(flow, 1)
        async with asyncio.timeout(15):
            end = await worker.wait()
        assert end.code is ExitCode.INTERNAL
        assert isinstance(end.error, SlotsExhaustedError)
        assert (await world.run(run))[0] == "failed"
    finally:
        release.set()


async def test_a_process_handler_runs_in_another_process_and_its_timeout_kills_it(world: World) -> None:
    flow = handlers.processes
    await world.create(flow)
    async with world.worker(flow):
        work = await world.start_run(flow, "pid")
        status, output = await world.ended(work)
        assert status == "completed"
        assert output["work"] != os.getpid()
        hang = await world.start_run(flow, "hang")
        assert (await world.ended(hang))[0] == "failed"
        assert (await world.task(hang, "work"))["error_message"].startswith("Task timed out after 2s")
        assert await world.ended(await world.start_run(flow, "pid")) != ("failed", None)


async def test_a_child_that_dies_fails_the_attempt_with_its_signal_or_code(world: World) -> None:
    flow = handlers.processes
    await world.create(flow)
    async with world.worker(flow):
        killed = await world.start_run(flow, "kill")
        left = await world.start_run(flow, "exit")
        raised = await world.start_run(flow, "raise")
        for run, text in (
            (killed, f"the handler's process was killed by SIGKILL (signal {signal.SIGKILL:d})"),
            (left, "the handler's process exited with code 7"),
            (raised, "ValueError: from a child"),
        ):
            assert (await world.ended(run))[0] == "failed"
            assert (await world.task(run, "work"))["error_message"].startswith(text)
    kinds = {failed.failure.message.split()[0]: failed.failure.kind for failed in world.heard.of(TaskFailed)}
    assert kinds == {"the": FailureKind.EXIT, "ValueError:": FailureKind.EXCEPTION}


async def test_input_that_does_not_fit_names_the_field(world: World) -> None:
    flow = Flow("typed", max_attempts=1, timeout=10)

    @flow.step
    async def use(count: int) -> int:
        return count

    await world.create(flow)
    async with world.worker(flow):
        run = await world.start_run(flow, {"not": "a number"})
        assert (await world.ended(run))[0] == "failed"
        (failed,) = await until(lambda: world.heard.of(TaskFailed), "the failed attempt is an event")
    assert failed.failure.kind is FailureKind.INPUT
    assert "count" in failed.failure.message


@pytest.mark.parametrize("output", [float("nan"), "zero \0", object()])
async def test_output_that_json_cannot_carry_fails_the_attempt(world: World, output: object) -> None:
    flow = Flow("odd_output", max_attempts=1, timeout=10)

    @flow.step
    async def give(_: int) -> Any:
        return output

    await world.create(flow)
    async with world.worker(flow):
        assert (await world.ended(await world.start_run(flow, 1)))[0] == "failed"
        (failed,) = await until(lambda: world.heard.of(TaskFailed), "the failed attempt is an event")
    assert failed.failure.kind is FailureKind.OUTPUT


async def test_an_output_of_ten_megabytes_is_stored(world: World) -> None:
    flow = Flow("large", max_attempts=1, timeout=30)

    @flow.step
    async def give(_: int) -> str:
        return "x" * 10_000_000

    await world.create(flow)
    async with world.worker(flow):
        status, output = await world.ended(await world.start_run(flow, 1), patience=40)
    assert status == "completed"
    assert len(output["give"]) == 10_000_000


async def test_the_context_knows_the_task_and_loads_the_runs_input(world: World) -> None:
    flow = Flow("context", max_attempts=4, timeout=10)

    @flow.step
    async def numbers(count: int) -> list[int]:
        return list(range(count))

    @flow.map(over=numbers)
    async def each(number: int, ctx: TaskContext) -> dict[str, Any]:
        return {
            "key": ctx.idempotency_key,
            "input": await ctx.flow_input(),
            "attempt": (ctx.attempt, ctx.max_attempts),
            "left": 0 < ctx.deadline - time.monotonic() <= 10,
            "read": ctx.message.read_count,
        }

    await world.create(flow)
    async with world.worker(flow):
        run = await world.start_run(flow, 2)
        status, output = await world.ended(run)
    assert status == "completed"
    assert output["each"] == [
        {"key": f"{run}:each:{index}", "input": 2, "attempt": [1, 4], "left": True, "read": 1} for index in range(2)
    ]


async def test_never_more_handlers_than_slots_and_never_more_claimed(world: World) -> None:
    running = 0
    most = 0
    counted = asyncio.Event()
    flow = Flow("narrow", max_attempts=1, timeout=30)

    @flow.map
    async def each(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await counted.wait()
        await asyncio.sleep(0.01)
        running -= 1

    await world.create(flow)
    run = await world.start_run(flow, list(range(40)))
    async with world.worker(flow, max_concurrency=3, batch_size=10):
        await until(lambda: running == 3, "three tasks run")
        started = await world.owner.fetchval("SELECT count(*) FROM pgflow.step_tasks WHERE status = 'started'")
        assert started == 3
        counted.set()
        assert (await world.ended(run))[0] == "completed"
    assert most == 3
    assert max(poll.task_count for poll in world.heard.of(PollStopped)) <= 3


async def test_the_state_shows_everything_that_runs(world: World) -> None:
    release = asyncio.Event()
    flow = Flow("shown", max_attempts=3, timeout=60)

    @flow.step
    async def wait(_: int) -> None:
        await release.wait()

    await world.create(flow)
    async with world.worker(flow, max_concurrency=4, worker_name="mina") as worker:
        run = await world.start_run(flow, 1)
        await until(lambda: worker.state().active_tasks, "the task runs")
        state = worker.state()
        (task,) = state.active_tasks
        assert (state.kind, state.slug, state.worker_name, state.workload) == (SourceKind.FLOW, "shown", "mina", flow)
        assert (state.lifecycle, state.max_concurrency, state.free_slots) == (Lifecycle.RUNNING, 4, 3)
        assert (task.run_id, task.step_slug, task.task_index, task.attempt) == (run, "wait", 0, 1)
        assert task.time_left is not None
        assert 50 < task.time_left <= 60
        assert isinstance(task.handle, asyncio.Task)
        assert state.signal.strategy is Strategy.POLLING
        assert 0.05 <= state.signal.current_interval <= 0.1
        release.set()
        await world.ended(run)
        await until(lambda: worker.state().counters.completed == 1, "the completed task is counted")


async def test_a_worker_registers_under_the_id_given_and_marks_itself_stopped(world: World) -> None:
    from uuid import UUID

    flow = Flow("registered", timeout=10)

    @flow.step
    async def only(_: int) -> None: ...

    await world.create(flow)
    chosen = UUID(int=7)
    async with world.worker(flow, worker_id=chosen) as worker:
        assert worker.worker_id == chosen
        assert (await world.worker_row(chosen))["state"] in {"starting", "running"}
        await until(lambda: _state_is(world, chosen, "running"), "the worker is reported as running")
        assert await world.owner.fetchval("SELECT count(*) FROM pgflow.workers WHERE worker_id = $1", chosen) == 1
    assert (await world.worker_row(chosen))["state"] == "stopped"


async def _state_is(world: World, worker_id: Any, state: str) -> bool:
    return (await world.worker_row(worker_id))["state"] == state


async def test_a_graceful_stop_waits_for_what_runs(world: World) -> None:
    begun = asyncio.Event()
    flow = Flow("graceful", max_attempts=1, timeout=10)

    @flow.step
    async def slow(_: int) -> str:
        begun.set()
        await asyncio.sleep(0.5)
        return "done"

    await world.create(flow)
    worker = world.worker(flow)
    await worker.start()
    run = await world.start_run(flow, 1)
    await begun.wait()
    await worker.stop()
    assert await world.run(run) == ("completed", {"slow": "done"})
    assert (await worker.wait()).code is ExitCode.DRAINED


async def test_after_the_drain_timeout_the_rest_goes_back_uncharged(world: World) -> None:
    cancelled: list[str | None] = []
    begun = asyncio.Event()
    flow = Flow("returned", max_attempts=1, timeout=600)

    @flow.step
    async def hang(_: int, ctx: TaskContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append("yes" if ctx.cancelled.is_set() else None)

    await world.create(flow)
    worker = world.worker(flow, drain_timeout=0.2)
    await worker.start()
    run = await world.start_run(flow, 1)
    await begun.wait()
    await worker.stop()
    task = await world.task(run, "hang")
    assert (task["status"], task["attempts_count"]) == ("queued", 0)
    assert cancelled == ["yes"]
    assert len(world.heard.of(TaskReleased)) == 1
    visible = await world.owner.fetchval("SELECT count(*) FROM pgmq.q_returned WHERE vt <= clock_timestamp()")
    assert visible == 1


async def test_a_second_stop_does_not_wait(world: World) -> None:
    begun = asyncio.Event()
    flow = Flow("hurried", max_attempts=1, timeout=600)

    @flow.step
    async def hang(_: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    await world.create(flow)
    worker = world.worker(flow)
    await worker.start()
    run = await world.start_run(flow, 1)
    await begun.wait()
    first = asyncio.create_task(worker.stop())
    await until(lambda: worker.lifecycle is Lifecycle.DRAINING, "the worker drains")
    assert not first.done()
    async with asyncio.timeout(5):
        await worker.stop(immediately=True)
        await first
    assert (await world.task(run, "hang"))["status"] == "queued"


async def test_stopping_is_safe_before_the_start_and_twice(world: World) -> None:
    flow = Flow("calm", timeout=10)

    @flow.step
    async def only(_: int) -> None: ...

    await world.create(flow)
    worker = world.worker(flow)
    await worker.stop()
    await worker.start()
    with pytest.raises(LifecycleError, match="starts once"):
        await worker.start()
    await worker.stop()
    await worker.stop()
    assert worker.lifecycle is Lifecycle.STOPPED


async def test_a_handler_that_blocks_the_loop_is_named_and_delays_no_heartbeat(world: World) -> None:
    flow = Flow("blocking", max_attempts=1, timeout=60)

    @flow.step
    async def block(_: int) -> None:
        time.sleep(5)  # noqa: ASYNC251 - that is the fault under test

    await world.create(flow)
    async with world.worker(flow) as worker:
        before = (await world.worker_row(worker.worker_id))["reported_at"]
        run = await world.start_run(flow, 1)
        assert (await world.ended(run))[0] == "completed"
        row = await until(lambda: _row_with_error(world, worker.worker_id), "the error is reported")
        await until(lambda: world.heard.of(LoopBlocked), "the blocked loop is an event")
    assert "block blocked the event loop" in row["last_error"]
    assert row["reported_at"] > before
    blocked = world.heard.of(LoopBlocked)
    assert blocked[0].step_slug == "block"
    assert "time.sleep(5)" in blocked[0].stack
    assert blocked[0].blocked_for < 2 <= blocked[-1].blocked_for


async def _row_with_error(world: World, worker_id: Any) -> dict[str, Any] | None:
    row = await world.worker_row(worker_id)
    return row if row["last_error"] else None


def test_options_that_make_no_sense_are_refused() -> None:
    from flowworker.runtime.worker import Worker

    flow = Flow("unused", timeout=10)
    for options in (
        {"max_concurrency": 0},
        {"batch_size": 0},
        {"min_poll_interval": 6.0},
        {"signal_strategy": "telepathy"},
        {"when_drained": "dance"},
        {"drain_timeout": -1.0},
    ):
        with pytest.raises(UsageError, match=next(iter(options))):
            Worker(flow, dsn="postgresql://nowhere", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="exactly one of"):
        Worker(flow)
    assert sys.version_info >= (3, 11)
