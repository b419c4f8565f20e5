"""The completer's two lanes, in virtual time and without a database."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias
from uuid import UUID

import pytest
from tests.unit.runtime.conftest import ScriptedSource, make_task, now, receipt_of

from flowworker.database.link import Limits
from flowworker.database.records import Completed, Failed, Receipt, RunEnd, TaskResult, Verdict
from flowworker.errors import DatabaseUnavailableError
from flowworker.runtime.held_tasks import HeldTask, HeldTasks
from flowworker.runtime.loops.completer import BATCH_LIMIT, LEAST_BYTES, Completer, Sizes
from flowworker.runtime.loops.quarantine import (
    LONGEST_LOCK,
    LONGEST_STATEMENT,
    MOST_BYTES,
    MOST_TRIES,
    Group,
    Item,
    limits_for,
)
from flowworker.runtime.source import Finish, Trouble, Unsettled

pytestmark = pytest.mark.looptime

Rule: TypeAlias = Callable[[TaskResult, Limits | None, int], Trouble | None]
"""From a result, the limits and the size of its batch to what it meets; None is written."""


class RuledSource(ScriptedSource):
    """Answers by a rule."""

    rule: Rule

    async def finish(
        self, results: Sequence[TaskResult], *, patience: Limits | None = None, waits_for_lock: bool = False
    ) -> Finish:
        await super().finish(results, patience=patience)
        met = [(result, self.rule(result, patience, len(results))) for result in results]
        if any(trouble is Trouble.UNAVAILABLE for _, trouble in met):
            raise DatabaseUnavailableError("no answer")
        return Finish(
            receipts=[receipt_of(result) for result, trouble in met if trouble is None],
            unsettled=[
                Unsettled(
                    result=result, trouble=trouble, error=f"it is {trouble}",
                    alone=len(results) == 1 and trouble is not Trouble.LOCKED,
                )
                for result, trouble in met
                if trouble is not None
            ],
        )  # fmt: skip


class Lanes:
    """A completer, its source, and what it said."""

    def __init__(self, rule: Rule) -> None:
        self.source = RuledSource()
        self.source.rule = rule
        self.receipts: list[Receipt] = []
        self.answered_at: list[float] = []
        self.crashes: list[BaseException] = []
        self.held_tasks = HeldTasks(1000)
        self.completer = Completer(
            self,
            source=self.source,
            name="tester",
            on_crash=self.crashes.append,
            randomness=lambda: 0.5,
            clock=now,
        )
        self.completer.start()

    def settled(self, held_task: HeldTask, receipt: Receipt) -> None:
        self.held_tasks.disown(held_task)
        self.receipts.append(receipt)
        self.answered_at.append(now())

    def run_ended(self, end: RunEnd) -> None: ...

    def failed(self, error: str) -> None: ...

    def set_aside(self, held_task: HeldTask, aside: bool) -> None:
        self.held_tasks.set_aside(held_task, aside)

    def submit(self, *msg_ids: int, run: int = 1, size: int = 1) -> None:
        for msg_id in msg_ids:
            held_task = self.held_tasks.add(make_task(msg_id, run_id=UUID(int=run)), now())
            self.held_tasks.vacate(held_task)
            output = Completed(output=b"1" * size, duration=0.1)
            self.completer.submit(held_task, TaskResult(task=held_task.task, outcome=output))

    @property
    def last_batch(self) -> list[int]:
        return [result.task.msg_id for result in self.source.finished[-1]]

    def lane(self, *, aside: bool) -> list[list[int]]:
        """The batches of one lane, by message."""
        return [
            [result.task.msg_id for result in batch]
            for batch, patience in zip(self.source.finished, self.source.patience, strict=True)
            if (patience is not None) is aside
        ]

    @property
    def written(self) -> list[int]:
        return [receipt.result.task.msg_id for receipt in self.receipts]


def run_of(result: TaskResult) -> int:
    assert result.task.run_id is not None
    return result.task.run_id.int


async def test_a_locked_run_leaves_the_fast_lane_with_all_that_comes_after() -> None:
    lanes = Lanes(lambda result, _, __: Trouble.LOCKED if run_of(result) == 1 and now() < 60 else None)
    lanes.submit(1, 2, run=1)
    lanes.submit(3, run=2)
    await asyncio.sleep(1)
    lanes.submit(4, run=1)
    lanes.submit(5, run=2)
    await asyncio.sleep(1)
    assert lanes.lane(aside=False) == [[1, 2, 3], [5]]
    assert lanes.written == [3, 5]
    assert lanes.completer.unwritten == 3
    assert lanes.completer.oldest_unwritten == 0
    assert await lanes.completer.flush(100)
    assert lanes.answered_at[-1] < 60 + 5
    assert all(trial is None or trial.lock <= LONGEST_LOCK for trial in lanes.source.patience)
    assert lanes.completer.oldest_unwritten is None
    lanes.submit(6, run=1)
    await asyncio.sleep(1)
    assert lanes.lane(aside=False)[-1] == [6]
    await lanes.completer.stop()


async def test_results_aside_do_not_keep_the_worker_from_claiming() -> None:
    lanes = Lanes(lambda _, __, ___: Trouble.LOCKED)
    lanes.held_tasks = held_tasks = HeldTasks(2)
    lanes.submit(*range(6))
    assert held_tasks.free == 0
    await asyncio.sleep(1)
    assert held_tasks.free == 2
    lanes.submit(*range(6, 16))
    await asyncio.sleep(1)
    assert held_tasks.free == 0  # memory has an end
    await lanes.completer.stop()


async def test_a_result_too_slow_alone_gets_ever_more_time() -> None:
    lanes = Lanes(lambda result, patience, _: _slow_below(60.0, result, patience))
    lanes.submit(1, run=1)
    lanes.submit(2, run=2)
    assert await lanes.completer.flush(300)
    given = [trial.statement - trial.lock for trial in lanes.source.patience if trial is not None]
    assert given == [4.0, 8.0, 16.0, 32.0, 64.0]
    assert sorted(lanes.written) == [1, 2]
    await lanes.completer.stop()


def _slow_below(seconds: float, result: TaskResult, patience: Limits | None) -> Trouble | None:
    enough = patience is not None and patience.statement >= seconds
    return Trouble.SLOW if run_of(result) == 1 and not enough else None


async def test_of_a_run_that_is_too_slow_the_culprit_is_left_alone_and_the_others_go_on() -> None:
    lanes = Lanes(lambda result, _, __: Trouble.SLOW if result.task.msg_id == 3 and now() < 30 else None)
    lanes.source.rule = _whole_batch(lanes.source.rule)
    lanes.submit(*range(8), run=1)
    await asyncio.sleep(5)
    assert sorted(lanes.written) == [0, 1, 2, 4, 5, 6, 7]
    assert await lanes.completer.flush(60)
    await lanes.completer.stop()


def _whole_batch(rule: Rule) -> Rule:
    """One slow result of a run makes the statement slow for all of them."""

    def of_batch(result: TaskResult, patience: Limits | None, size: int) -> Trouble | None:
        if size == 1:
            return rule(result, patience, size)
        return Trouble.SLOW if now() < 30 else None

    return of_batch


async def test_an_outcome_that_never_works_becomes_a_failed_attempt_after_bounded_tries() -> None:
    lanes = Lanes(lambda result, _, __: Trouble.UNKNOWN if isinstance(result.outcome, Completed) else None)
    lanes.submit(1)
    assert await lanes.completer.flush(600)
    assert len(lanes.source.finished) == MOST_TRIES + 1
    outcome = lanes.receipts[0].result.outcome
    assert isinstance(outcome, Failed)
    assert outcome.message == "the database refused the output: it is unknown"
    await lanes.completer.stop()


async def test_people_have_the_best_part_of_an_hour_to_grant_a_right() -> None:
    lanes = Lanes(lambda _, __, ___: Trouble.FORBIDDEN if now() < 1200 else None)
    lanes.submit(1)
    assert await lanes.completer.flush(3600)
    assert [receipt.verdict for receipt in lanes.receipts] == [Verdict.COMPLETED]
    await lanes.completer.stop()


async def test_nothing_is_tried_for_ever() -> None:
    lanes = Lanes(lambda _, __, ___: Trouble.UNKNOWN)
    lanes.submit(1)
    assert await lanes.completer.flush(3600)
    assert [receipt.verdict for receipt in lanes.receipts] == [Verdict.UNWRITTEN]
    assert lanes.receipts[0].error == "the database refused it: it is unknown"
    assert lanes.held_tasks.in_flight == 0
    await lanes.completer.stop()


async def test_a_huge_result_does_not_share_the_connection_of_the_many() -> None:
    lanes = Lanes(lambda _, __, ___: None)
    lanes.submit(1, size=MOST_BYTES + 1)
    lanes.submit(2)
    assert await lanes.completer.flush(1)
    assert (lanes.lane(aside=False), lanes.lane(aside=True)) == ([[2]], [[1]])
    await lanes.completer.stop()


async def test_a_batch_is_bounded_in_bytes() -> None:
    lanes = Lanes(lambda _, __, ___: None)
    lanes.submit(1, 2, 3, 4, size=MOST_BYTES // 2 - 1)
    assert await lanes.completer.flush(1)
    assert lanes.lane(aside=False) == [[1, 2], [3, 4]]
    await lanes.completer.stop()


async def test_a_write_that_costs_the_connection_is_found_where_no_limit_ends_it() -> None:
    """Behind a transaction pooler a statement that waits for a lock is given up by the client, with its connection."""
    lanes = Lanes(lambda result, _, __: Trouble.UNAVAILABLE if result.task.msg_id == 3 and now() < 100 else None)
    for n in range(8):
        lanes.submit(n, run=n)
    await asyncio.sleep(90)
    assert sorted(lanes.written) == [0, 1, 2, 4, 5, 6, 7]
    lanes.submit(9, run=9)
    await asyncio.sleep(1)
    assert lanes.written[-1] == 9
    assert await lanes.completer.flush(60)
    await lanes.completer.stop()


async def test_beside_a_write_that_takes_long_others_are_written_that_do_not_need_its_locks() -> None:
    lanes = Lanes(lambda _, __, ___: None)
    slow = {1: 10.0, 3: 20.0}

    async def take_long() -> None:
        await asyncio.sleep(max((slow.pop(task, 0.0) for task in [*slow] if task in lanes.last_batch), default=0.0))

    lanes.source.before_finish = take_long
    lanes.submit(1, run=1)
    await asyncio.sleep(0.1)
    lanes.submit(2, run=2)
    await asyncio.sleep(0.1)
    assert lanes.written == []  # a write to a far server takes as long
    await asyncio.sleep(1)
    assert lanes.written == [2]
    lanes.submit(3, run=3)
    lanes.submit(4, run=1)
    await asyncio.sleep(5)
    assert lanes.written == [2]
    await asyncio.sleep(5)
    assert lanes.written == [2, 1, 4]
    lanes.submit(5, run=3)
    lanes.submit(6, run=4)
    await asyncio.sleep(5)
    assert lanes.written == [2, 1, 4, 6]  # 5 needs the lock that the write beside still has
    assert await lanes.completer.flush(20)
    assert lanes.written == [2, 1, 4, 6, 3, 5]
    await lanes.completer.stop()


@pytest.mark.timeout(20)
async def test_lanes_whose_results_all_wait_for_each_other_s_locks_sleep_while_others_are_in_trouble() -> None:
    lanes = Lanes(lambda result, _, __: Trouble.LOCKED if run_of(result) == 9 and now() < 100 else None)
    lanes.submit(9, run=9)
    await asyncio.sleep(1)
    slow = {1: 10.0, 2: 20.0}

    async def take_long() -> None:
        await asyncio.sleep(max((slow.pop(task, 0.0) for task in [*slow] if task in lanes.last_batch), default=0.0))

    lanes.source.before_finish = take_long
    lanes.submit(1, run=1)
    await asyncio.sleep(0.1)
    lanes.submit(2, run=2)
    await asyncio.sleep(1)
    lanes.submit(3, run=1)
    lanes.submit(4, run=2)
    await asyncio.sleep(15)
    assert lanes.written == [1, 3]
    await asyncio.sleep(10)
    assert sorted(lanes.written) == [1, 2, 3, 4]
    await lanes.completer.stop()


async def test_what_is_forgotten_leaves_both_lanes() -> None:
    lanes = Lanes(lambda result, _, __: Trouble.LOCKED if run_of(result) == 1 else None)
    lanes.submit(1, run=1)
    await asyncio.sleep(1)
    lanes.source.before_finish = lambda: asyncio.ensure_future(asyncio.sleep(10))  # type: ignore[assignment]
    lanes.submit(2, run=2)
    await asyncio.sleep(1)
    assert sorted(held_task.task.msg_id for held_task in lanes.completer.forget()) == [1, 2]
    assert await lanes.completer.flush(0.1)
    await asyncio.sleep(30)
    assert lanes.receipts == []
    assert lanes.completer.oldest_unwritten is None
    await lanes.completer.stop()


async def test_a_stop_ends_the_writes_of_both_lanes() -> None:
    lanes = Lanes(lambda result, _, __: Trouble.LOCKED if run_of(result) == 1 else None)
    ended: list[bool] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            ended.append(True)
            raise

    lanes.submit(1, run=1)
    await asyncio.sleep(0.1)
    lanes.source.before_finish = wait
    lanes.submit(2, run=2)
    await asyncio.sleep(10)
    await lanes.completer.stop()
    assert ended == [True, True]
    assert lanes.crashes == []


async def test_a_lane_that_ends_by_an_error_is_a_crash() -> None:
    lanes = Lanes(lambda _, __, ___: None)

    def fail(held_task: HeldTask, receipt: Receipt) -> None:
        raise RuntimeError("a bug")

    lanes.settled = fail  # type: ignore[method-assign]
    lanes.submit(1)
    await asyncio.sleep(1)
    assert [str(error) for error in lanes.crashes] == ["a bug"]
    await lanes.completer.stop()


def test_sizes_shrink_with_trouble_and_recover() -> None:
    sizes = Sizes()
    for _ in range(20):
        sizes.shrink(sizes.most)
    assert (sizes.most, sizes.most_bytes) == (1, LEAST_BYTES)
    for _ in range(7):
        sizes.grow()
    assert (sizes.most, sizes.most_bytes) == (BATCH_LIMIT, MOST_BYTES)


def test_limits_grow_with_the_tries_and_have_an_end() -> None:
    task = make_task(1)
    result = TaskResult(task=task, outcome=Completed(output=b"1", duration=0.1))
    item = Item(held_task=HeldTask(task=task, claimed_at=0), result=result, arrived_at=0, tries=100)
    limits = limits_for(Group(key=item, waits=100), [item])
    assert limits == Limits(statement=LONGEST_STATEMENT + LONGEST_LOCK, lock=LONGEST_LOCK)
