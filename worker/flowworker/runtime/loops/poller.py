"""Claims tasks: never more than there are free slots, and at once while more may be waiting."""

import asyncio
import logging
import math
import random
from collections.abc import Callable
from typing import Protocol

from flowworker.database.connection import describe
from flowworker.database.faults import is_passing, refusal_of
from flowworker.database.records import ClaimedTask
from flowworker.errors import FlowWorkerError, InternalError
from flowworker.runtime.backoff import Randomness, backoff
from flowworker.runtime.execution.executor import Executor
from flowworker.runtime.held_tasks import HeldTasks
from flowworker.runtime.loops.start_recorder import StartRecorder
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


class ClaimGate(Protocol):
    """Says whether claims are allowed, and takes what ends that."""

    @property
    def may_claim(self) -> bool:
        """Whether claims are allowed now; `Poller.kick` has it looked at again."""
        ...

    def fenced(self) -> None:
        """The database lets this worker claim nothing, because it was marked lost."""
        ...

    def refused(self, error: FlowWorkerError) -> None:
        """Claims cannot work any more: rights are missing, or none has worked for minutes. Handlers run on."""
        ...


class Poller(Service):
    """The loop that claims, and launches what it has claimed."""

    def __init__(
        self, gate: ClaimGate, *, source: Source, held_tasks: HeldTasks, starts: StartRecorder, executor: Executor,
        wakeup: Wakeup, batch_size: int, events: EventStream, info: WorkerInfo, on_crash: Crash,
        clock: Callable[[], float], randomness: Randomness = random.random,
    ) -> None:  # fmt: skip
        """Wire it up.

        Args:
            gate: says whether claims are allowed.
            source: where tasks come from.
            held_tasks: where they are kept; its free slots bound each claim.
            starts: records the database's time of a claim before its handlers begin.
            executor: runs the handler of each.
            wakeup: sleeps between polls.
            batch_size: most tasks per claim.
            events: receives an event for each poll.
            info: which worker this is.
            on_crash: called when the loop ends with an error.
            clock: monotonic seconds.
            randomness: jitter of the backoff while the database is away.
        """
        super().__init__(f"poller of {info.worker_name}", on_crash)
        self._gate = gate
        self._source = source
        self._held_tasks = held_tasks
        self._starts = starts
        self._executor = executor
        self._wakeup = wakeup
        self._batch_size = batch_size
        self._events = events
        self._info = info
        self._clock = clock
        self._randomness = randomness
        self._failures = 0
        self._unknown_since: float | None = None
        self._abandoned = False
        self.last_claim: float | None = None
        """Monotonic seconds of the last claim that was answered; None before the first."""
        self.wanting_since: float | None = None
        """Monotonic seconds since when a claim is wanted and none was answered; None while none is wanted."""

    def kick(self) -> None:
        """Poll at once where claims are allowed: they are again, or nothing is waited for any more."""
        self._wakeup.nudge()
        self._held_tasks.freed.set()

    def abandon(self) -> None:
        """Launch nothing more: others own what a claim on its way brings."""
        self._abandoned = True

    async def stop(self) -> None:
        """End after the claim that is on its way; what it brings is launched."""
        self._stopping = True
        self.kick()
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait({self._task}, timeout=STOP_PATIENCE)
        await super().stop()

    async def _run(self) -> None:
        while not self._stopping:
            await self._let_slots_free()
            limit = min(self._held_tasks.free, self._batch_size)
            wanted = limit >= 1 and self._gate.may_claim
            self._note_wanted(wanted)
            if wanted:
                await self._poll(limit)
            else:
                await self._pause(math.inf)

    async def _poll(self, limit: int) -> None:
        """Claim, launch what that brought, and wait until another claim makes sense."""
        try:
            claim = await self._claim_and_launch(limit)
        except Exception as error:  # noqa: BLE001 - handlers run, whatever became of a claim
            await self._failed(error)
            return
        self._failures, self._unknown_since = 0, None
        self.last_claim, self.wanting_since = self._clock(), None
        if claim.fenced:
            self._gate.fenced()
            await self._pause(FENCED_PAUSE, until_freed=False)
        elif not claim.full and not self._stopping:
            found, doubtful = bool(claim.tasks), claim.doubtful
            del claim  # its inputs may be large, and the sleep long
            await self._sleep(found=found, doubtful=doubtful)

    async def _claim_and_launch(self, limit: int) -> Claim:
        self._held_tasks.expect(limit)
        try:
            claim = await self._claim(limit)
            if claim.tasks and claim.claimed_at is not None:
                self._starts.note(claim.claimed_at)
            for task in () if self._abandoned else claim.tasks:
                self._launch(task)
            await asyncio.sleep(0)  # handlers begin before anything else is asked for
            return claim
        finally:
            self._held_tasks.expect(0)

    def _launch(self, task: ClaimedTask) -> None:
        try:
            self._executor.launch(self._held_tasks.add(task, self._clock()))
        except Exception:  # the others are launched
            logger.exception("%s could not launch message %d", self._info.worker_name, task.msg_id)

    async def _let_slots_free(self) -> None:
        """Let handlers that end at once free their slots, so that one claim fills them all.

        Otherwise the tasks of one claim that had to be small stay apart from the others for ever, and each group has
        claims and writes of its own.
        """
        for _ in range(TURNS if self._held_tasks.occupied else 0):
            await asyncio.sleep(0)

    def _note_wanted(self, wanted: bool) -> None:
        if not wanted:
            self.wanting_since = None
        elif self.wanting_since is None:
            self.wanting_since = self._clock()

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
            self._gate.refused(final)
        delay = backoff(self._failures, self._randomness)
        logger.log(
            logging.WARNING if self._failures == 1 else logging.DEBUG,
            "%s cannot claim, next try in %.1f s: %s", self._info.worker_name, delay, describe(error),
            exc_info=None if passing else error,
        )  # fmt: skip
        await self._pause(delay, until_freed=False)

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

    async def _pause(self, seconds: float, *, until_freed: bool = True) -> None:
        """Wait, at most this long, until a slot may be free (only a stop ends a pause that must last)."""
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                while True:
                    await self._held_tasks.freed.wait()
                    self._held_tasks.freed.clear()
                    if until_freed or self._stopping:
                        return
        except TimeoutError:
            return
