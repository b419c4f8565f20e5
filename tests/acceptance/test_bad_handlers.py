"""Handlers that misbehave: their attempt fails, the worker and all other work goes on."""

import asyncio
import sys
import threading
import time

from testkit.support.waiting import until
from tests.acceptance.support import Stage

from flowworker import Flow, Queue, Worker
from flowworker.database.jobs_admin import JobState
from flowworker.database.records import FailureKind, RunStatus
from flowworker.errors import ExitCode
from flowworker.telemetry.events import LoopBlocked, TaskFailed


class OddError(BaseException):
    """No Exception."""


def lingering(worker: Worker) -> list[bool]:
    """For each task that takes a slot, whether its attempt is over and its handler is not."""
    return [task.lingering for task in worker.state().active_tasks]


async def test_handler_that_never_returns(stage: Stage) -> None:
    release = threading.Event()
    flow, stuck = Flow("never", max_attempts=1, timeout=1), Flow("never_thread", max_attempts=1, timeout=1)

    @flow.step
    async def hang(value: int) -> int:
        if value < 0:
            await asyncio.Event().wait()
        return value

    @stuck.step
    def stick(value: int) -> int:
        if value < 0:
            release.wait(60)
        return value

    await stage.create(flow, stuck)
    try:
        async with stage.worker(flow, max_concurrency=1):
            hung = await stage.finish(flow, -1)
            assert (hung.status, (hung.error or "")[:23]) == (RunStatus.FAILED, "Task timed out after 1s")
            assert (await stage.finish(flow, 5)).output == {"hang": 5}
        # A thread cannot be killed: it costs its slot, and the last slot costs the worker.
        worker = stage.worker(stuck, max_concurrency=2)
        await worker.start()
        assert (await stage.finish(stuck, -1)).status is RunStatus.FAILED
        assert (await stage.finish(stuck, 5)).output == {"stick": 5}
        await until(lambda: lingering(worker) == [True], "the slot of the task that is done")
        assert worker.state().free_slots == 1
        assert (await stage.finish(stuck, -1)).status is RunStatus.FAILED
        async with asyncio.timeout(20):
            end = await worker.wait()
        assert end.code is ExitCode.INTERNAL
        assert "past their deadline" in end.reason
        assert await stage.client.workers() == []
    finally:
        release.set()


async def test_handler_that_swallows_cancellation(stage: Stage) -> None:
    release = asyncio.Event()
    flow = Flow("stubborn", max_attempts=1, timeout=1)

    @flow.step
    async def stay(value: int) -> int:
        while value < 0 and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return value

    await stage.create(flow)
    try:
        async with stage.worker(flow, max_concurrency=2) as worker:
            run = await stage.start(flow, -1)
            assert (await stage.ended(run)).status is RunStatus.FAILED
            assert (await stage.finish(flow, 5)).output == {"stay": 5}  # in the other slot
            await until(lambda: lingering(worker) == [True], "the slot of the task that is done")
            release.set()
            await until(lambda: worker.state().free_slots == 2, "the slot of the handler that ended at last")
            assert (await stage.ended(run)).status is RunStatus.FAILED  # what it returned came too late
    finally:
        release.set()  # nothing else ends it


async def test_handler_that_blocks_the_loop_is_detected_and_reported(stage: Stage) -> None:
    flow = Flow("blocking", max_attempts=1, timeout=60)

    @flow.step
    async def block(value: int) -> int:
        time.sleep(value)  # noqa: ASYNC251 - that is the fault
        return value

    await stage.create(flow)
    async with stage.worker(flow) as worker:
        assert (await stage.finish(flow, 4)).output == {"block": 4}
        blocked = await stage.heard.first(LoopBlocked)
        assert (blocked.step_slug, blocked.worker.worker_id) == ("block", worker.worker_id)
        assert 1 <= blocked.blocked_for < 4
        assert "time.sleep(value)" in blocked.stack

        async def reported() -> str | None:
            return (await stage.report(worker.worker_id)).last_error

        assert "block blocked the event loop" in await until(reported, "the report")
        assert worker.state().loop_blocked_for < 1
        assert (await stage.finish(flow, 0)).output == {"block": 0}
    assert stage.heard.of(TaskFailed) == []  # slow is not wrong


async def test_handler_that_raises_base_exception(stage: Stage) -> None:
    errors = {
        "system_exit": SystemExit(3),
        "keyboard_interrupt": KeyboardInterrupt(),
        "generator_exit": GeneratorExit(),
        "cancelled": asyncio.CancelledError(),
        "stop_iteration": StopIteration(),
        "own": OddError("very odd"),
    }
    flow, queue = Flow("wild", max_attempts=1, timeout=30), Queue("wild_jobs", max_attempts=1, timeout=30)

    @flow.step
    async def on_loop(which: str) -> str:
        if which in errors:
            raise errors[which]
        return which

    @queue.job
    def in_thread(which: str) -> str:
        if which in errors:
            raise errors[which]
        return which

    await stage.create(flow, queue)
    async with stage.pool([flow, queue]):
        for which in errors:
            run, job = await stage.finish(flow, which), await stage.do(queue, which)
            assert (run.status, job.state) == (RunStatus.FAILED, JobState.FAILED), which
            assert run.error, which
            assert job.error, which
        assert (await stage.finish(flow, "fine")).output == {"on_loop": "fine"}
        assert (await stage.do(queue, "fine")).result == "fine"
    failures = [event.failure for event in stage.heard.of(TaskFailed)]
    assert len(failures) == 2 * len(errors)
    assert sum("very odd" in failure.message for failure in failures) == 2


async def test_handler_that_exits_a_thread(stage: Stage) -> None:
    names: list[str] = []
    flow = Flow("leaving", max_attempts=1, timeout=30)

    @flow.step
    def leave(value: int) -> int:
        names.append(threading.current_thread().name)
        if value < 0:
            sys.exit("enough")
        return value

    await stage.create(flow)
    async with stage.worker(flow, max_concurrency=1) as worker:
        left = await stage.finish(flow, -1)
        assert (left.status, "enough" in (left.error or "")) == (RunStatus.FAILED, True)
        assert (await stage.finish(flow, 5)).output == {"leave": 5}
        assert worker.state().free_slots == 1
    assert threading.main_thread().name not in names
    (failed,) = stage.heard.of(TaskFailed)
    assert failed.failure.kind is FailureKind.EXIT
