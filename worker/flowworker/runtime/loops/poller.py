"""Claims tasks: never more than there are free slots, and at once while more may be waiting."""

import asyncio
import logging
import math
import random
from collections.abc import Callable
from datetime import datetime

from flowworker.database.connection import describe
from flowworker.database.faults import is_passing, refusal_of
from flowworker.database.records import ClaimedTask
from flowworker.errors import FlowWorkerError, InternalError
from flowworker.runtime.backoff import Randomness, backoff
from flowworker.runtime.held_tasks import HeldTasks
from flowworker.runtime.loops.wakeup import Wakeup
from flowworker.runtime.service import Crash, Service
from flowworker.runtime.source import Claim, Source
from flowworker.telemetry.events import PollStarted, PollStopped, WorkerInfo
from flowworker.telemetry.stream import EventStream

logger = logging.getLogger(__name__)

FENCED_PAUSE = 1.0
"""Seconds between claims of a worker that was marked lost, until it goes on under a new id."""

DOUBT_INTERVAL = 2.0
"""Seconds between claims while one that was not answered may still take effect."""

UNKNOWN_PATIENCE = 300.0
"""Seconds for which claims may fail for a reason we do not know before the worker drains and ends."""

TURNS = 3
"""Turns of the event loop in which a handler that waits for nothing starts, ends, and frees its slot."""

STOP_PATIENCE = 5.0
"""Seconds a stop waits for a claim that is on its way: cut off, its tasks would have to be recovered."""


class Poller(Service):
    """The loop that claims."""

    def __init__(
        self, *, source: Source, held_tasks: HeldTasks, wakeup: Wakeup, batch_size: int, may_claim: Callable[[], bool],
        launch: Callable[[ClaimedTask], None], on_claimed: Callable[[datetime], None], on_fenced: Callable[[], None],
        on_refused: Callable[[FlowWorkerError], None], events: EventStream, info: WorkerInfo,
        clock: Callable[[], float], on_crash: Crash, randomness: Randomness = random.random,
    ) -> None:  # fmt: skip
        """Wire it up.

        Args:
            source: where tasks come from.
            held_tasks: what is held; its free slots bound each claim.
            wakeup: sleeps between polls.
            batch_size: most tasks per claim.
            may_claim: whether claiming is allowed now; `kick` has it looked at again.
            launch: takes each claimed task.
            on_claimed: called with the database's time of a claim before its tasks are launched.
            on_fenced: called when the database lets this worker claim nothing because it was marked lost.
            on_refused: called when claiming cannot work any more: rights are missing, or nothing has worked for
                minutes. Handlers that run are not concerned.
            events: receives an event for each poll.
            info: which worker this is.
            clock: monotonic seconds.
            on_crash: called when the loop ends with an error.
            randomness: jitter of the backoff while the database is away.
        """
        super().__init__(f"poller of {info.worker_name}", on_crash)
        self._source = source
        self._held_tasks = held_tasks
        self._wakeup = wakeup
        self._batch_size = batch_size
        self._may_claim = may_claim
        self._launch = launch
        self._on_claimed = on_claimed
        self._on_fenced = on_fenced
        self._on_refused = on_refused
        self._events = events
        self._info = info
        self._clock = clock
        self._randomness = randomness
        self._failures = 0
        self._unknown_since: float | None = None
        self._kicked = asyncio.Event()
        self.last_claim: float | None = None
        """Monotonic seconds of the last claim that was answered; None before the first."""
        self.wanting_since: float | None = None
        """Monotonic seconds since when a claim is wanted and none was answered; None while none is wanted."""

    def kick(self) -> None:
        """Look again whether claiming is possible: a slot became free, or the worker runs again."""
        self._kicked.set()

    async def stop(self) -> None:
        """End after the claim that is on its way; what it brings is launched."""
        self._stopping = True
        self._kicked.set()
        self._wakeup.nudge()
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait({self._task}, timeout=STOP_PATIENCE)
        await super().stop()

    async def _run(self) -> None:
        while not self._stopping:
            await self._let_slots_free()
            limit = min(self._held_tasks.free, self._batch_size)
            wanted = limit >= 1 and self._may_claim()
            self._note_wanted(wanted)
            if not wanted:
                await self._pause(math.inf)
                continue
            claim = await self._poll(limit)
            if claim is None or claim.full or self._stopping:
                continue
            found, doubtful = bool(claim.tasks), claim.doubtful
            del claim  # its inputs may be large, and the sleep long
            await self._sleep(found=found, doubtful=doubtful)

    async def _let_slots_free(self) -> None:
        """Let handlers that end at once free their slots, so that one claim fills them all.

        Otherwise the tasks of one claim that had to be small stay apart from the others for ever, and each group has
        claims and writes of its own.
        """
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def _poll(self, limit: int) -> Claim | None:
        """Claim once; None when that failed or nothing may be claimed, after a pause."""
        try:
            claim = await self._claim_and_launch(limit)
        except Exception as error:  # noqa: BLE001 - handlers run, whatever became of a claim
            await self._failed(error)
            return None
        self._failures, self._unknown_since = 0, None
        self.last_claim, self.wanting_since = self._clock(), None
        if claim.fenced:
            self._on_fenced()
            await self._pause(FENCED_PAUSE, until_kicked=False)
            return None
        return claim

    def _note_wanted(self, wanted: bool) -> None:
        if not wanted:
            self.wanting_since = None
        elif self.wanting_since is None:
            self.wanting_since = self._clock()

    async def _claim_and_launch(self, limit: int) -> Claim:
        self._held_tasks.expect(limit)
        try:
            claim = await self._claim(limit)
            if claim.tasks and claim.claimed_at is not None:
                self._on_claimed(claim.claimed_at)
            for task in claim.tasks:
                self._launch_one(task)
            return claim
        finally:
            self._held_tasks.expect(0)

    def _launch_one(self, task: ClaimedTask) -> None:
        try:
            self._launch(task)
        except Exception:  # the others are launched; this one comes back as a task that is not held
            logger.exception("%s could not launch message %d", self._info.worker_name, task.msg_id)

    async def _claim(self, limit: int) -> Claim:
        began = self._clock()
        self._events.emit(PollStarted(worker=self._info, active_tasks=self._held_tasks.occupied))
        claim = Claim()
        try:
            claim = await self._source.claim(limit, self._held_tasks.message_ids())
            return claim
        finally:
            self._events.emit(
                PollStopped(
                    worker=self._info,
                    active_tasks=self._held_tasks.occupied,
                    task_count=len(claim.tasks),
                    unstartable=claim.unstartable,
                    duration=self._clock() - began,
                )
            )

    async def _sleep(self, *, found: bool, doubtful: bool) -> None:
        if doubtful:
            self._wakeup.due_in(DOUBT_INTERVAL)
        if self._wakeup.wants_due:
            try:
                due = await self._source.next_due()
            except Exception as error:  # noqa: BLE001 - as for a claim
                await self._failed(error)
                return
            if due is not None:
                self._wakeup.due_in(due)
        await self._wakeup.sleep(found=found)

    async def _failed(self, error: Exception) -> None:
        """Class the error: wait for what passes, give up what lasts, and be patient with what is unknown."""
        self._failures += 1
        passing = is_passing(error)
        if (final := self._final(error, passing=passing)) is not None:
            self._on_refused(final)
        delay = backoff(self._failures, self._randomness)
        logger.log(
            logging.WARNING if self._failures == 1 else logging.DEBUG,
            "%s cannot claim, next try in %.1f s: %s", self._info.worker_name, delay, describe(error),
            exc_info=None if passing else error,
        )  # fmt: skip
        await self._pause(delay, until_kicked=False)

    def _final(self, error: Exception, *, passing: bool) -> FlowWorkerError | None:
        """Why claiming cannot go on; None while it may."""
        now = self._clock()
        if passing:
            self._unknown_since = None
            return None
        if self._unknown_since is None:
            self._unknown_since = now
        refusal = refusal_of(error, f"claim from {self._source.slug!r}")
        if refusal is None and now - self._unknown_since >= UNKNOWN_PATIENCE:
            return InternalError(
                f"claims from {self._source.slug!r} have failed for {UNKNOWN_PATIENCE:.0f} s: {describe(error)}"
            )
        return refusal

    async def _pause(self, seconds: float, *, until_kicked: bool = True) -> None:
        """Wait, at most this long, for a kick (only a stop ends a pause that must last)."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                while True:
                    await self._kicked.wait()
                    self._kicked.clear()
                    if until_kicked or self._stopping:
                        return
        except TimeoutError:
            return
