"""Writes outcomes. While one write is on its way the next ones gather.

So a lone result waits for nothing, and a flood is batched. Beside a write that takes long the next ones go on. What
cannot be written with the others leaves for a lane aside (`flowworker.runtime.loops.quarantine`). A result is kept
until the database has written it, has proven it superseded, or has refused every form of it.
"""

import asyncio
import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flowworker.database.connection import describe
from flowworker.database.link import Limits
from flowworker.database.records import Receipt, RunEnd, TaskResult, Verdict
from flowworker.errors import FlowWorkerError
from flowworker.runtime.backoff import Randomness, backoff
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.loops.quarantine import (
    MOST_BYTES,
    MOST_TRIES,
    Item,
    Quarantine,
    WriteAttempt,
    most_tries,
    take_batch,
)
from flowworker.runtime.service import Crash, Service
from flowworker.runtime.source import Finish, LockGroup, Source, Trouble, Unsettled, weight
from flowworker.runtime.sources.ladder import one_rung_down, refused
from flowworker.telemetry.line_writer import lines_together

logger = logging.getLogger(__name__)

BATCH_LIMIT = 100
"""Most results per write: keeps the locks of one transaction short."""

LEAST_BYTES = 256 * 1024
"""Bytes per write below which trouble does not push the limit."""

BESIDE_AFTER = 0.5
"""Seconds that a write takes before the next goes beside it. One culprit can take as long as the limits of a few
statements allow; a write to a far server is over sooner, and costs no second connection."""

MOST_LOST = 2
"""Lost connections in a row after which a batch is looked through for a culprit."""

NO_ANSWER = "the database does not answer this write, and answers others"


@dataclass(slots=True, kw_only=True)
class Sizes:
    """How much one write takes: less after trouble, again more with each success."""

    most: int = BATCH_LIMIT
    most_bytes: int = MOST_BYTES

    def shrink(self, results: int) -> None:
        """A write of so many results was too much."""
        self.most = max(1, results // 2)
        self.most_bytes = max(LEAST_BYTES, self.most_bytes // 2)

    def grow(self) -> None:
        """The last write went well."""
        self.most = min(BATCH_LIMIT, self.most * 2)
        self.most_bytes = min(MOST_BYTES, self.most_bytes * 2)


class ResultSink(Protocol):
    """Takes what becomes of results, on the event loop."""

    def settled(self, held_task: HeldTask, receipt: Receipt) -> None:
        """The database's answer to a result."""
        ...

    def run_ended(self, end: RunEnd) -> None:
        """A result has ended a run."""
        ...

    def failed(self, error: str) -> None:
        """The text of a failed write."""
        ...

    def set_aside(self, held_task: HeldTask, aside: bool) -> None:
        """A result leaves for the lane aside (True), or comes back (False)."""
        ...


class Completer(Service):
    """The loops that write: one for the many, one beside a long write of these, one aside for those in trouble."""

    def __init__(
        self, sink: ResultSink, *, source: Source, name: str, on_crash: Crash, randomness: Randomness = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Wire it up.

        Args:
            sink: takes what becomes of results.
            source: where they go.
            name: the worker's, for messages.
            on_crash: called when a loop ends with an error.
            randomness: jitter of the backoff while the database is away.
            clock: monotonic seconds.
        """
        super().__init__(f"completer of {name}", on_crash)
        self._sink = sink
        self._source = source
        self._worker_name = name
        self._randomness = randomness
        self._clock = clock
        self._unsettled: OrderedDict[int, Item] = OrderedDict()
        self._oldest: float | None = None
        self._waiting: deque[Item] = deque()
        self._quarantine = Quarantine(randomness)
        self._sizes = Sizes()
        self._arrived = asyncio.Event()
        self._long: frozenset[LockGroup] = frozenset()  # what the write of the many locks, once it takes long
        self._beside: frozenset[LockGroup] = frozenset()  # what the write beside it locks
        self._go_beside = asyncio.Event()
        self._set_aside = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._hurry = asyncio.Event()
        self._failures = 0
        self._writes = 0

    @property
    def unwritten(self) -> int:
        """Results that no write has settled yet."""
        return len(self._unsettled)

    @property
    def oldest_unwritten(self) -> float | None:
        """Monotonic seconds at which the oldest of them arrived; None where there is none. Safe in any thread."""
        return self._oldest

    def submit(self, held_task: HeldTask, result: TaskResult) -> None:
        """Take a result; it is written soon."""
        item = Item(held_task=held_task, result=result, arrived_at=self._clock())
        self._unsettled[id(held_task)] = item
        if self._oldest is None:
            self._oldest = item.arrived_at
        self._written.clear()
        self._route(item)

    def forget(self) -> Sequence[HeldTask]:
        """Drop what is unwritten: this worker was declared lost, and its results would all be refused."""
        dropped = [item.held_task for item in self._unsettled.values()]
        self._unsettled.clear()
        self._waiting.clear()
        self._quarantine.clear()
        self._note_oldest()
        return dropped

    def try_now(self) -> None:
        """End a pause before the next try: the database is back."""
        self._hurry.set()
        self._quarantine.hurry()
        self._set_aside.set()

    async def flush(self, timeout: float | None) -> bool:
        """Wait until everything is written; False when `timeout` seconds were not enough."""
        try:
            async with asyncio.timeout(timeout):
                await self._written.wait()
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        lanes = [
            asyncio.create_task(self._write_the_many(), name=f"{self._name}: the many"),
            asyncio.create_task(self._write_beside(), name=f"{self._name}: beside"),
            asyncio.create_task(self._write_aside(), name=f"{self._name}: aside"),
        ]
        try:
            ended, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.wait(lanes)
        for lane in ended:  # neither ends by itself: this raises
            lane.result()

    async def _write_the_many(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._next_batch(besides=self._beside):
                timer = asyncio.get_running_loop().call_later(BESIDE_AFTER, self._takes_long, batch)
                try:
                    await self._write(batch)
                finally:
                    timer.cancel()
                    self._long = frozenset()

    def _takes_long(self, batch: Sequence[Item]) -> None:
        self._long = frozenset(item.group for item in batch)
        self._go_beside.set()

    async def _write_beside(self) -> None:
        """While a write of the many takes long, write others that do not need its locks."""
        while True:
            await self._go_beside.wait()
            self._go_beside.clear()
            while self._long and (batch := self._next_batch(besides=self._long)):
                self._beside = frozenset(item.group for item in batch)
                try:
                    await self._write(batch)
                finally:
                    self._beside = frozenset()
                    self._arrived.set()

    def _next_batch(self, *, besides: frozenset[LockGroup]) -> list[Item]:
        """The oldest results that fit together; what has become trouble while it waited leaves."""
        if self._quarantine:
            waiting, self._waiting = self._waiting, deque()
            for item in waiting:
                self._place(item)
        held_up: list[Item] = []
        if besides:
            held_up = [item for item in self._waiting if item.group in besides]
            self._waiting = deque(item for item in self._waiting if item.group not in besides)
        batch = take_batch(self._waiting, most=self._sizes.most, most_bytes=self._sizes.most_bytes)
        self._waiting.extendleft(reversed(held_up))
        return batch

    def _route(self, item: Item) -> None:
        """Give a result its place, and wake the lane that writes there."""
        if self._place(item):
            self._arrived.set()
            if self._long:
                self._go_beside.set()

    def _place(self, item: Item) -> bool:
        """Let a result wait among the many, or in quarantine; whether it is among the many."""
        if self._quarantine and self._quarantine.holds(item.group):
            self._quarantine.join(item)
        elif weight(item.result) > self._sizes.most_bytes:
            self._quarantine.isolate(item, due=self._clock())
        else:
            self._waiting.append(item)
            return True
        self._leave(item)
        return False

    async def _write(self, batch: Sequence[Item]) -> None:
        finish = await self._finish(batch, None)
        left = self._settle(batch, finish)
        lost = [item for item, unsettled in left if unsettled.trouble is Trouble.UNAVAILABLE]
        aside = [(item, unsettled) for item, unsettled in left if unsettled.trouble is not Trouble.UNAVAILABLE]
        self._log_set_aside(aside)
        for item, unsettled in aside:
            self._admit(item, unsettled)
        if any(unsettled.trouble is Trouble.SLOW for _, unsettled in aside):
            self._sizes.shrink(len(batch))
        if lost:
            errors = (one.error for one in finish.unsettled if one.trouble is Trouble.UNAVAILABLE)
            await self._wait(next(errors), len(lost))
            self._keep(lost)
        else:
            self._failures = 0

    def _keep(self, lost: Sequence[Item]) -> None:
        """Try again what a lost connection left open.

        Behind a transaction pooler no limit of ours ends a statement on the server, so one of these may cost the
        connection. Then the batch shrinks, others go first, and what fails while others do not is the culprit.
        """
        for item in lost:
            item.written_then = self._writes if item.lost == 0 else item.written_then
            item.lost += 1
        (culprit, *others) = lost
        if not others and culprit.lost > MOST_LOST and self._writes > culprit.written_then:
            culprit.written_then = self._writes
            self._admit(culprit, Unsettled(result=culprit.result, trouble=Trouble.SLOW, error=NO_ANSWER, alone=True))
        elif self._failures > MOST_LOST:
            self._sizes.shrink(len(lost))
            self._waiting.extend(lost)
        else:
            self._waiting.extendleft(reversed(lost))
        self._arrived.set()

    def _admit(self, item: Item, unsettled: Unsettled) -> None:
        self._leave(item)
        if unsettled.trouble is not Trouble.LOCKED and unsettled.alone:
            self._isolate(item, unsettled.error, most=most_tries(unsettled.trouble))
        else:
            self._quarantine.admit([item], unsettled.trouble, now=self._clock())

    async def _write_aside(self) -> None:
        while True:
            self._set_aside.clear()
            attempt = self._quarantine.take(self._clock())
            if attempt is not None:
                await self._try_aside(attempt)
                continue
            try:
                async with asyncio.timeout(self._quarantine.wait(self._clock())):
                    await self._set_aside.wait()
            except TimeoutError:
                continue

    async def _try_aside(self, attempt: WriteAttempt) -> None:
        finish = await self._finish(attempt.items, attempt.limits, waits_for_lock=attempt.waits_for_lock)
        left = self._settle(attempt.items, finish)
        held_up: list[Item] = []
        failed: list[Item] = []
        for item, unsettled in left:
            if unsettled.trouble is Trouble.UNAVAILABLE and self._answers_others(attempt, item):
                self._isolate(item, NO_ANSWER)
            elif unsettled.trouble in (Trouble.LOCKED, Trouble.UNAVAILABLE):
                held_up.append(item)
            elif unsettled.alone:
                self._isolate(item, unsettled.error, most=most_tries(unsettled.trouble))
            else:
                failed.append(item)
        self._conclude(attempt, written=len(left) < len(attempt.items), held_up=held_up, failed=failed)

    def _answers_others(self, attempt: WriteAttempt, item: Item) -> bool:
        """Whether others were written since this one lost its connection before, alone: then it is no outage."""
        proven = len(attempt.items) == 1 and item.lost > MOST_LOST and self._writes > item.written_then
        item.lost += 1
        item.written_then = self._writes
        return proven

    def _conclude(self, attempt: WriteAttempt, *, written: bool, held_up: list[Item], failed: list[Item]) -> None:
        now = self._clock()
        if written:
            for item in self._quarantine.written(attempt, [*held_up, *failed]):
                self._sink.set_aside(item.held_task, False)
                self._route(item)
        elif failed:
            self._quarantine.failed(attempt, [*held_up, *failed], now=now)
        elif held_up:
            self._quarantine.locked(attempt, held_up, now=now)
        else:
            self._quarantine.settle(attempt)

    def _isolate(self, item: Item, error: str, *, most: int = MOST_TRIES) -> None:
        """An outcome failed alone once more: try again later, and in the end write a lesser one."""
        item.tries += 1
        pause = self._quarantine.pause_of(item)
        if item.tries >= most:
            lower = one_rung_down(item.result.outcome, error)
            logger.error("%s cannot write an outcome of %s %s after %d tries: %s", self._worker_name,
                         item.result.task.step_slug, item.result.task.msg_id, item.tries, error)  # fmt: skip
            if lower is None:
                receipt = Receipt(result=item.result, verdict=Verdict.UNWRITTEN, error=refused(error))
                self._settle_one(item, receipt)
                self._note_oldest()
                return
            item.result = replace(item.result, outcome=lower)
            item.tries, pause = 0, 0.0
        self._quarantine.isolate(item, due=self._clock() + pause)

    async def _finish(self, batch: Sequence[Item], patience: Limits | None, *, waits_for_lock: bool = False) -> Finish:
        """One write; whatever it raises says that nothing is settled."""
        results = [item.result for item in batch]
        try:
            return await self._source.finish(results, patience=patience, waits_for_lock=waits_for_lock)
        except FlowWorkerError as error:
            trouble, text = Trouble.UNAVAILABLE, str(error)
        except Exception as error:
            level = logging.ERROR if patience is None else logging.DEBUG
            logger.log(level, "%s could not write %d results", self._worker_name, len(batch), exc_info=error)
            trouble, text = Trouble.UNKNOWN, describe(error)
        alone = len(batch) == 1
        return Finish(
            receipts=(),
            unsettled=[Unsettled(result=one, trouble=trouble, error=text, alone=alone) for one in results],
        )

    def _settle(self, batch: Iterable[Item], finish: Finish) -> list[tuple[Item, Unsettled]]:
        """Pass the answers on; returns what is still unwritten, and not forgotten meanwhile."""
        receipts = {id(receipt.result): receipt for receipt in finish.receipts}
        unsettled = {id(one.result): one for one in finish.unsettled}
        left: list[tuple[Item, Unsettled]] = []
        with lines_together():
            for item in batch:
                key = id(item.result)
                if key in receipts:
                    self._settle_one(item, receipts[key])
                elif self._unsettled.get(id(item.held_task)) is item:
                    left.append((item, unsettled[key]))
        self._note_oldest()
        if finish.receipts:
            self._writes += 1
            self._sizes.grow()
        for one in {one.error for one in finish.unsettled}:
            self._sink.failed(one)
        for ended in finish.ended_runs:
            self._sink.run_ended(ended)
        return left

    def _settle_one(self, item: Item, receipt: Receipt) -> None:
        if self._unsettled.get(id(item.held_task)) is not item:
            return  # forgotten meanwhile
        del self._unsettled[id(item.held_task)]
        if item.held_task.aside:
            self._sink.set_aside(item.held_task, False)
        self._sink.settled(item.held_task, receipt)

    def _note_oldest(self) -> None:
        self._oldest = next(iter(self._unsettled.values())).arrived_at if self._unsettled else None
        if not self._unsettled:
            self._written.set()

    def _leave(self, item: Item) -> None:
        self._sink.set_aside(item.held_task, True)
        self._set_aside.set()

    def _log_set_aside(self, aside: Sequence[tuple[Item, Unsettled]]) -> None:
        if aside:
            troubles = sorted({str(unsettled.trouble) for _, unsettled in aside})
            logger.warning(
                "%s sets %d results aside (%s), and tries them apart from the others: %s",
                self._worker_name, len(aside), ", ".join(troubles), aside[0][1].error,
            )  # fmt: skip

    async def _wait(self, error: str, count: int) -> None:
        self._failures += 1
        delay = backoff(self._failures, self._randomness)
        logger.log(
            logging.WARNING if self._failures == 1 else logging.DEBUG,
            "%s keeps %d results that could not be written, next try in %.1f s: %s",
            self._worker_name,
            count,
            delay,
            error,
        )
        self._hurry.clear()
        try:
            async with asyncio.timeout(delay):
                await self._hurry.wait()
        except TimeoutError:
            return
