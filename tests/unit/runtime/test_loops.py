"""Poller and completer, in virtual time and without a database."""

import asyncio
import itertools
import random
from collections.abc import Callable
from datetime import datetime

import asyncpg
import pytest
from tests.unit.runtime.conftest import INFO, NOW, Plain, ScriptedSource, a_claim, make_task, no_input, now

from flowworker.database.records import Completed, Receipt, RunEnd, TaskResult
from flowworker.definition.context import TaskContext
from flowworker.errors import DatabaseUnavailableError, FlowWorkerError, InternalError, MissingRightsError
from flowworker.runtime.execution.executor import Executor
from flowworker.runtime.execution.flow_inputs import RunInputs
from flowworker.runtime.held_tasks import HeldTask, HeldTasks
from flowworker.runtime.loops.completer import Completer
from flowworker.runtime.loops.poller import UNKNOWN_PATIENCE, Poller
from flowworker.runtime.loops.start_recorder import StartRecorder
from flowworker.runtime.loops.wakeup import Adaptive, Wakeup
from flowworker.runtime.source import Claim
from flowworker.telemetry.events import Event, PollStarted, PollStopped
from flowworker.telemetry.stream import EventStream
from flowworker.worker_options import Strategy

pytestmark = pytest.mark.looptime


class Polling:
    """A poller with a scripted source, whose handlers run until they may end."""

    def __init__(self, *claims: Claim | Exception, slots: int = 4, batch_size: int = 10) -> None:
        self.source = ScriptedSource()
        self.source.claims.extend(claims)
        self.held_tasks = HeldTasks(slots)
        self.events: list[Event] = []
        stream = EventStream()
        stream.subscribe(self.events.append)
        self.crashes: list[BaseException] = []
        self.fenced_at: list[float] = []
        self.refusals: list[FlowWorkerError] = []
        self.may_claim = True
        self.wakeup = Wakeup(
            strategy=Strategy.POLLING, polling=Adaptive(1.0, 5.0, random.Random(1).uniform), fallback=None,
            clock=now, uniform=random.Random(1).uniform,
        )  # fmt: skip
        self.handlers_wait = True
        self.unlaunchable: set[int] = set()
        self.launched: list[int] = []
        self.known_at_start: list[datetime | None] = []
        self.held: list[HeldTask] = []
        self.starts = StartRecorder(source=self.source, name="tester", clock=now, on_crash=self.crashes.append)
        self.executor = Executor(
            self,
            router=lambda _: Plain(self._work),
            held_tasks=self.held_tasks,
            worker_name="tester",
            inputs=RunInputs(no_input, lambda text: text),
            clock=now,
        )
        self.poller = Poller(
            self,
            source=self.source,
            held_tasks=self.held_tasks,
            starts=self.starts,
            executor=self.executor,
            wakeup=self.wakeup,
            batch_size=batch_size,
            events=stream,
            info=INFO,
            on_crash=self.crashes.append,
            clock=now,
            randomness=lambda: 0.5,
        )
        self._ends: dict[int, asyncio.Event] = {}

    def finish(self, count: int) -> None:
        """Let the first handlers end."""
        for held_task in self.held[:count]:
            self._ends[held_task.task.msg_id].set()

    async def stop(self) -> None:
        """End the poller, and after it what it has launched."""
        await self.poller.stop()
        self.executor.supersede_all("the test is over")
        await self.executor.idle()

    async def _work(self, context: TaskContext) -> None:
        if self.handlers_wait:
            await self._ends.setdefault(context.message.msg_id, asyncio.Event()).wait()

    def fenced(self) -> None:
        self.fenced_at.append(now())

    def refused(self, error: FlowWorkerError) -> None:
        self.refusals.append(error)

    def started(self, held_task: HeldTask) -> None:
        if held_task.task.msg_id in self.unlaunchable:
            raise RuntimeError("can't start new thread")
        self.launched.append(held_task.task.msg_id)
        self.known_at_start.append(self.starts.latest)
        self.held.append(held_task)

    def finished(self, held_task: HeldTask, result: TaskResult) -> None:
        self.held.remove(held_task)
        self.held_tasks.disown(held_task)

    def superseded(self, held_task: HeldTask, duration: float) -> None: ...

    def exhausted(self) -> None:
        raise AssertionError


async def test_it_asks_for_the_free_slots_and_never_more_than_a_batch() -> None:
    polling = Polling(a_claim(1, 2, 3), a_claim(4, 5), slots=5, batch_size=3)
    polling.poller.start()
    await asyncio.sleep(0.5)
    await polling.stop()
    assert [limit for _, limit in polling.source.asked] == [3, 2]


async def test_after_a_full_claim_it_claims_again_when_a_slot_is_free() -> None:
    polling = Polling(a_claim(1, 2), a_claim(3), slots=2)
    polling.poller.start()
    await asyncio.sleep(10)
    assert len(polling.source.asked) == 1
    polling.finish(1)
    await asyncio.sleep(0.1)
    assert polling.source.asked[1] == (pytest.approx(10.0), 1)
    await polling.stop()


async def test_slots_of_handlers_that_end_at_once_are_filled_by_one_claim() -> None:
    polling = Polling(a_claim(1, 2, 3, read=5), a_claim(4), slots=5)
    polling.handlers_wait = False
    polling.poller.start()
    await asyncio.sleep(0.5)
    await polling.stop()
    assert [limit for _, limit in polling.source.asked] == [5, 5]


async def test_after_a_claim_that_was_not_full_it_waits_for_its_time() -> None:
    polling = Polling(a_claim(1), slots=4)
    polling.poller.start()
    await asyncio.sleep(1.5)
    assert [round(at, 1) for at, _ in polling.source.asked] == [0.0, 1.0]
    await polling.stop()


async def test_it_claims_nothing_while_it_may_not() -> None:
    polling = Polling()
    polling.may_claim = False
    polling.poller.start()
    await asyncio.sleep(30)
    assert polling.source.asked == []
    assert polling.poller.wanting_since is None
    polling.may_claim = True
    polling.poller.kick()
    await asyncio.sleep(1)
    assert polling.source.asked[0][0] == pytest.approx(30.0)
    await polling.stop()


async def test_an_absent_database_is_asked_again_with_backoff_and_a_bounded_rate() -> None:
    polling = Polling(*[DatabaseUnavailableError("down")] * 1000)
    polling.poller.start()
    await asyncio.sleep(60)
    await polling.stop()
    times = [at for at, _ in polling.source.asked]
    assert times[1] == pytest.approx(0.25)
    assert len(times) < 60 * 2
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 2.5
    assert polling.crashes == []


async def test_every_poll_is_an_event_with_what_it_brought() -> None:
    polling = Polling(a_claim(1, 2, read=3), slots=4)
    polling.poller.start()
    await asyncio.sleep(0.1)
    await polling.stop()
    started, stopped = polling.events[:2]
    assert isinstance(started, PollStarted)
    assert isinstance(stopped, PollStopped)
    assert (started.active_tasks, stopped.task_count) == (0, 2)


async def test_an_unknown_error_is_waited_out_and_work_goes_on() -> None:
    polling = Polling(InternalError("a bug"), a_claim(1))
    polling.poller.start()
    await asyncio.sleep(10)
    assert len(polling.held) == 1
    assert (polling.crashes, polling.refusals) == ([], [])
    await polling.stop()


async def test_an_unknown_error_that_lasts_for_minutes_is_reported_once_patience_is_over() -> None:
    polling = Polling(*[InternalError("a bug")] * 1000)
    polling.poller.start()
    await asyncio.sleep(UNKNOWN_PATIENCE - 10)
    assert polling.refusals == []
    await asyncio.sleep(20)
    await polling.stop()
    assert "have failed for 300 s: InternalError a bug" in str(polling.refusals[0])
    assert polling.crashes == []


async def test_an_outage_uses_up_no_patience_with_an_unknown_error() -> None:
    outage = [DatabaseUnavailableError("down")] * 400
    polling = Polling(*outage, InternalError("a bug"), a_claim(1))
    polling.poller.start()
    await asyncio.sleep(4 * UNKNOWN_PATIENCE)
    await polling.stop()
    assert polling.launched == [1]
    assert polling.refusals == []


async def test_missing_rights_are_reported_at_once_with_the_command_that_helps() -> None:
    polling = Polling(asyncpg.InsufficientPrivilegeError("permission denied for table q_flow"))
    polling.poller.start()
    await asyncio.sleep(1)
    await polling.stop()
    assert isinstance(polling.refusals[0], MissingRightsError)
    assert "permission denied for table q_flow" in str(polling.refusals[0])
    assert "flowworker db install --role" in str(polling.refusals[0])


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.LockNotAvailableError("locked"),
        asyncpg.QueryCanceledError("long"),
        asyncpg.SerializationError("met"),
        OSError(),
    ],
)
async def test_what_passes_is_waited_for_however_long_it_takes(error: Exception) -> None:
    polling = Polling(*[error] * 1000)
    polling.poller.start()
    await asyncio.sleep(2 * UNKNOWN_PATIENCE)
    await polling.stop()
    assert (polling.crashes, polling.refusals) == ([], [])


async def test_a_fenced_worker_reports_it_and_asks_rarely() -> None:
    polling = Polling(*[Claim(fenced=True)] * 1000)
    polling.poller.start()
    await asyncio.sleep(5)
    await polling.stop()
    assert polling.fenced_at[0] == 0.0
    assert len(polling.fenced_at) <= 6


async def test_a_claim_in_doubt_is_followed_by_another_soon() -> None:
    polling = Polling(Claim(doubtful=True), slots=1)
    polling.wakeup = Wakeup(
        strategy=Strategy.NOTIFY, polling=Adaptive(1.0, 5.0, random.Random(1).uniform), fallback=30.0,
        clock=now, uniform=random.Random(1).uniform,
    )  # fmt: skip
    polling.wakeup.listen_state(listening=True, degraded=None)
    polling.poller.start()
    await asyncio.sleep(5)
    await polling.stop()
    assert len(polling.source.asked) >= 2


async def test_a_task_that_cannot_be_launched_does_not_keep_the_others() -> None:
    polling = Polling(a_claim(1, 2))
    polling.unlaunchable = {1}
    polling.poller.start()
    await asyncio.sleep(0.1)
    assert [held_task.task.msg_id for held_task in polling.held] == [2]
    await polling.stop()
    assert polling.crashes == []


async def test_the_time_of_a_claim_is_noted_before_its_tasks_are_launched() -> None:
    polling = Polling(a_claim(1))
    polling.poller.start()
    await asyncio.sleep(0.1)
    await polling.stop()
    assert polling.known_at_start == [NOW]


async def test_stopping_waits_for_the_claim_on_its_way() -> None:
    polling = Polling(a_claim(1))
    claim = polling.source.claim

    async def slow_claim(limit: int, held: object) -> Claim:
        await asyncio.sleep(2)
        return await claim(limit, ())

    polling.source.claim = slow_claim  # type: ignore[method-assign]
    polling.poller.start()
    await asyncio.sleep(0.1)
    held_tasks = polling.held_tasks
    assert (held_tasks.in_flight, held_tasks.unsettled) == (0, held_tasks.slots)  # not yet drained
    await polling.poller.stop()
    assert len(polling.held) == 1
    assert held_tasks.unsettled == 1
    await polling.stop()


async def test_what_an_abandoned_poller_claims_is_neither_held_nor_run() -> None:
    polling = Polling(a_claim(1))
    polling.poller.abandon()
    polling.poller.start()
    await asyncio.sleep(0.1)
    await polling.stop()
    assert len(polling.source.asked) == 1
    assert (polling.held, polling.held_tasks.unsettled) == ([], 0)


async def test_a_slot_that_is_freed_while_claims_pause_ends_no_pause() -> None:
    polling = Polling(a_claim(1), DatabaseUnavailableError("down"), slots=2)
    polling.poller.start()
    await asyncio.sleep(1.1)
    polling.finish(1)
    await asyncio.sleep(0.1)
    assert len(polling.source.asked) == 2
    await asyncio.sleep(0.2)
    assert [at for at, _ in polling.source.asked] == pytest.approx([0.0, 1.0, 1.25])
    await polling.stop()


class Completing:
    """A completer with a scripted source."""

    def __init__(self) -> None:
        self.source = ScriptedSource()
        self.receipts: list[Receipt] = []
        self.errors: list[str] = []
        self.crashes: list[BaseException] = []
        self.completer = Completer(
            self,
            source=self.source,
            name="tester",
            on_crash=self.crashes.append,
            randomness=lambda: 0.5,
            clock=now,
        )

    def settled(self, held_task: HeldTask, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    def run_ended(self, end: RunEnd) -> None: ...

    def failed(self, error: str) -> None:
        self.errors.append(error)

    def set_aside(self, held_task: HeldTask, aside: bool) -> None: ...

    def submit(self, *msg_ids: int) -> None:
        for msg_id in msg_ids:
            task = make_task(msg_id)
            outcome = Completed(output=b"1", duration=0.1)
            self.completer.submit(HeldTask(task=task, claimed_at=0), TaskResult(task=task, outcome=outcome))

    @property
    def batches(self) -> list[list[int]]:
        return [[result.task.msg_id for result in batch] for batch in self.source.finished]


def takes(seconds: float) -> Callable[[], "asyncio.Future[None]"]:
    return lambda: asyncio.ensure_future(asyncio.sleep(seconds))


async def test_a_lone_result_waits_for_nothing() -> None:
    completing = Completing()
    completing.completer.start()
    await asyncio.sleep(1)
    completing.submit(1)
    assert await completing.completer.flush(0.001)
    await completing.completer.stop()
    assert completing.batches == [[1]]


async def test_results_gather_while_a_write_is_on_its_way() -> None:
    completing = Completing()
    completing.source.before_finish = takes(1.0)
    completing.completer.start()
    completing.submit(1)
    await asyncio.sleep(0.5)
    completing.submit(2, 3, 4)
    assert await completing.completer.flush(5)
    await completing.completer.stop()
    assert completing.batches == [[1], [2, 3, 4]]
    assert [receipt.result.task.msg_id for receipt in completing.receipts] == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [DatabaseUnavailableError("down"), RuntimeError("odd")])
async def test_a_result_is_kept_until_it_is_written(error: Exception) -> None:
    completing = Completing()

    async def fail_for_a_minute() -> None:
        if now() < 60:
            raise error

    completing.source.before_finish = fail_for_a_minute
    completing.completer.start()
    completing.submit(1, 2)
    assert not await completing.completer.flush(30)
    assert completing.completer.unwritten == 2
    assert await completing.completer.flush(40)
    await completing.completer.stop()
    assert sorted(receipt.result.task.msg_id for receipt in completing.receipts) == [1, 2]
    assert {text.removeprefix("RuntimeError ") for text in completing.errors} == {str(error)}
    assert completing.crashes == []


async def test_the_return_of_the_database_ends_the_pause_before_the_next_try() -> None:
    completing = Completing()

    async def fail_at_first() -> None:
        if len(completing.source.finished) < 8:
            raise DatabaseUnavailableError("down")

    completing.source.before_finish = fail_at_first
    completing.completer.start()
    completing.submit(1)
    for _ in range(8):
        await asyncio.sleep(0.01)
        completing.completer.try_now()
    assert await completing.completer.flush(0.1)
    assert now() < 1
    await completing.completer.stop()


async def test_what_is_forgotten_is_neither_written_again_nor_reported() -> None:
    completing = Completing()
    completing.source.before_finish = takes(1.0)
    completing.completer.start()
    completing.submit(1)
    await asyncio.sleep(0.5)
    assert len(completing.completer.forget()) == 1
    await asyncio.sleep(2)
    assert completing.receipts == []
    assert completing.batches == [[1]]
    await completing.completer.stop()
