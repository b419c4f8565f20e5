"""The executor in virtual time: deadlines, grace, and results that come too late."""

import asyncio
import contextvars
import time
from collections.abc import Callable
from typing import Any

import pytest
from testkit.support.waiting import until
from tests.unit.runtime.conftest import Plain, make_task, no_input, now

from flowworker.database.records import Completed, Failed, FailureKind, Released, TaskResult
from flowworker.definition.context import TaskContext
from flowworker.definition.handler import RunMode
from flowworker.definition.place import HandlerReference
from flowworker.runtime.execution.children import ChildExecution, Children
from flowworker.runtime.execution.executor import Executor
from flowworker.runtime.execution.flow_inputs import RunInputs
from flowworker.runtime.execution.frames import Request
from flowworker.runtime.held_tasks import HeldTask, HeldTasks
from flowworker.runtime.workload import Runnable


class Execution:
    """An executor with one task in it, and what became of that."""

    def __init__(self, handler: Runnable, *, slots: int = 1, clock: Callable[[], float] = now) -> None:
        self.held_tasks = HeldTasks(slots)
        self.results: list[tuple[float, TaskResult]] = []
        self.superseded_tasks: list[HeldTask] = []
        self.exhausted_at: list[float] = []
        self.executor = Executor(
            self,
            router=lambda _: handler,
            held_tasks=self.held_tasks,
            worker_name="tester",
            inputs=RunInputs(no_input, lambda text: text),
            clock=clock,
        )

    def started(self, held_task: HeldTask) -> None:
        assert held_task in self.held_tasks.all()

    def finished(self, held_task: HeldTask, result: TaskResult) -> None:
        assert result.task is held_task.task
        self.results.append((now(), result))

    def superseded(self, held_task: HeldTask, duration: float) -> None:
        assert duration >= 0
        self.superseded_tasks.append(held_task)

    def exhausted(self) -> None:
        self.exhausted_at.append(now())

    def launch(self, **changes: Any) -> HeldTask:
        held_task = self.held_tasks.add(make_task(1, **changes), now())
        self.executor.launch(held_task)
        return held_task

    @property
    def outcomes(self) -> list[object]:
        return [result.outcome for _, result in self.results]


@pytest.mark.looptime
async def test_a_result_in_time_is_the_outcome() -> None:
    async def work(_: TaskContext) -> int:
        await asyncio.sleep(2)
        return 7

    execution = Execution(Plain(work))
    execution.launch()
    await execution.executor.idle()
    assert execution.outcomes == [Completed(output=b"7", duration=2.0)]
    await asyncio.sleep(0)
    assert execution.held_tasks.free == 1


@pytest.mark.looptime
async def test_cleaning_up_within_the_grace_delays_the_timeout_a_little() -> None:
    async def work(_: TaskContext) -> int:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.5)
        return 7

    execution = Execution(Plain(work))
    execution.launch(timeout=3.0)
    await execution.executor.idle()
    (at, result) = execution.results[0]
    assert at == pytest.approx(3.5)
    assert isinstance(result.outcome, Failed)
    assert result.outcome.kind is FailureKind.TIMEOUT


@pytest.mark.looptime
async def test_after_the_grace_the_outcome_stands_and_late_results_are_ignored() -> None:
    async def work(_: TaskContext) -> int:
        ends = now() + 10
        while now() < ends:
            try:
                await asyncio.sleep(ends - now())
            except asyncio.CancelledError:
                continue
        return 7

    execution = Execution(Plain(work))
    held_task = execution.launch(timeout=3.0)
    await execution.executor.idle()
    assert execution.results[0][0] == pytest.approx(4.0)
    assert held_task.lingering
    assert execution.held_tasks.exhausted
    assert execution.exhausted_at == [pytest.approx(4.0)]
    await asyncio.sleep(10)
    assert len(execution.results) == 1
    assert execution.held_tasks.free == 1


@pytest.mark.looptime
async def test_a_loop_that_was_blocked_past_the_deadline_does_not_save_the_handler() -> None:
    skew = 0.0

    async def work(_: TaskContext) -> int:
        nonlocal skew
        skew = 100.0  # as if it had blocked the loop for so long
        return 7

    execution = Execution(Plain(work), clock=lambda: now() + skew)
    execution.launch(timeout=3.0)
    await execution.executor.idle()
    (outcome,) = execution.outcomes
    assert isinstance(outcome, Failed)
    assert outcome.message == "Task timed out after 3s"


@pytest.mark.looptime
async def test_release_gives_back_what_is_unfinished_whatever_it_then_returns() -> None:
    async def work(ctx: TaskContext) -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return f"half of it, {ctx.cancelled.is_set()}"
        return "all of it"

    execution = Execution(Plain(work))
    execution.launch()
    await asyncio.sleep(1)
    execution.executor.release_all("the worker stops")
    await execution.executor.idle()
    assert execution.outcomes == [Released(reason="the worker stops")]


@pytest.mark.looptime
async def test_a_superseded_attempt_has_no_outcome() -> None:
    async def work(_: TaskContext) -> None:
        await asyncio.sleep(100)

    execution = Execution(Plain(work))
    held_task = execution.launch()
    await asyncio.sleep(1)
    execution.executor.supersede(held_task, "lost")
    await execution.executor.idle()
    assert (execution.outcomes, execution.superseded_tasks) == ([], [held_task])
    assert held_task.cancelled.reason == "lost"


@pytest.mark.looptime
async def test_a_task_stopped_before_its_first_step_is_released_too() -> None:
    async def work(_: TaskContext) -> None:
        await asyncio.sleep(100)

    execution = Execution(Plain(work))
    execution.launch()
    execution.executor.release_all("at once")
    await execution.executor.idle()
    assert execution.outcomes == [Released(reason="at once")]


async def test_a_thread_can_ask_whether_it_should_stop() -> None:
    def work(ctx: TaskContext) -> str:
        ends = time.monotonic() + 5
        while not ctx.cancelled.is_set() and time.monotonic() < ends:
            time.sleep(0.005)
        return "stopped"

    execution = Execution(Plain(work, RunMode.THREAD), clock=time.monotonic)
    execution.launch(timeout=0.1)
    await execution.executor.idle()
    assert [type(outcome) for outcome in execution.outcomes] == [Failed]
    async with asyncio.timeout(5):
        while execution.held_tasks.free == 0:  # noqa: ASYNC110 - a thread ends
            await asyncio.sleep(0.01)


@pytest.mark.looptime
async def test_a_payload_that_fits_no_handler_fails_its_attempt() -> None:
    execution = Execution(Plain(lambda _: None))

    def refuse(_: object) -> Runnable:
        raise LookupError("no handler for type 'parcel'")

    execution.executor._router = refuse  # pyright: ignore[reportPrivateUsage]
    execution.launch()
    (outcome,) = execution.outcomes
    assert isinstance(outcome, Failed)
    assert "parcel" in outcome.message
    assert execution.held_tasks.free == 1


async def test_an_outcome_that_cannot_be_passed_on_keeps_no_slot() -> None:
    async def work(_: TaskContext) -> int:
        return 7

    execution = Execution(Plain(work))

    def refuse(held_task: HeldTask, result: TaskResult) -> None:
        raise RuntimeError("not this one")

    execution.finished = refuse  # type: ignore[method-assign]
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    execution.launch()
    await until(lambda: execution.held_tasks.free == 1, "the slot is free")


async def test_a_child_that_is_being_killed_is_given_to_no_other_handler() -> None:
    children = Children()
    child = await children.take()
    child.kill()
    children.give_back(child)
    successor = await children.take()
    assert successor is not child
    children.give_back(successor)
    assert await children.take() is successor
    await successor.reap()


async def test_a_stop_that_comes_after_the_answer_kills_no_child_of_the_next_handler() -> None:
    children = Children()
    reference = HandlerReference(module="nowhere", file="nowhere.py", owner="mail", name=None)  # it answers why not

    async def request() -> Request:
        raise AssertionError

    execution = ChildExecution(
        children, reference, request, name="first", clock=time.monotonic, context=contextvars.copy_context()
    )
    await execution.ended
    child = await children.take()
    execution.stop()
    assert child.alive
    await child.reap()
