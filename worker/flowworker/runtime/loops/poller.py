"""Claims tasks: never more than there are free slots, and at once while more may be waiting."""

import asyncio
import logging
import math
import random
from collections.abc import Callable

from flowworker.database.records import ClaimedTask
from flowworker.errors import AccessError, DatabaseUnavailableError
from flowworker.runtime.backoff import Randomness, backoff
from flowworker.runtime.holdings import Holdings
from flowworker.runtime.loops.wakeup import Wakeup
from flowworker.runtime.service import Crash, Service
from flowworker.runtime.source import Claim, Source
from flowworker.telemetry.events import PollStarted, PollStopped, WorkerInfo
from flowworker.telemetry.stream import EventStream

logger = logging.getLogger(__name__)

STOP_PATIENCE = 5.0
"""Seconds a stop waits for a claim that is on its way: cut off, its tasks would have to be recovered."""


class Poller(Service):
    """The loop that claims."""

    def __init__(
        self, *, source: Source, holdings: Holdings, wakeup: Wakeup, batch_size: int, gate: Callable[[], float],
        launch: Callable[[ClaimedTask], None], events: EventStream, info: WorkerInfo, clock: Callable[[], float],
        on_crash: Crash, randomness: Randomness = random.random,
    ) -> None:  # fmt: skip
        """Wire it up.

        Args:
            source: where tasks come from.
            holdings: what is held; its free slots bound each claim.
            wakeup: sleeps between polls.
            batch_size: most tasks per claim.
            gate: seconds until claiming is allowed: 0 means now, infinity means not until `kick`.
            launch: takes each claimed task.
            events: told about each poll.
            info: which worker this is.
            clock: monotonic seconds.
            on_crash: told when the loop ends by an error.
            randomness: jitter of the backoff while the database is away.
        """
        super().__init__(f"poller of {info.worker_name}", on_crash)
        self._source = source
        self._holdings = holdings
        self._wakeup = wakeup
        self._batch_size = batch_size
        self._gate = gate
        self._launch = launch
        self._events = events
        self._info = info
        self._clock = clock
        self._randomness = randomness
        self._failures = 0
        self._stopping = False
        self._kicked = asyncio.Event()

    def kick(self) -> None:
        """Look again whether claiming is possible: a slot became free, or the gate moved."""
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
            await asyncio.sleep(0)  # handlers that end together free their slots together
            limit = min(self._holdings.free, self._batch_size)
            closed = self._gate()
            if closed > 0 or limit < 1:
                await self._pause(closed if limit > 0 else math.inf)
                continue
            claim = await self._poll(limit)
            if claim is not None and claim.read < limit and not self._stopping:
                await self._sleep(claim)

    async def _poll(self, limit: int) -> Claim | None:
        """Claim once; None when the database was away, after a pause."""
        try:
            claim = await self._claim_and_launch(limit)
        except (DatabaseUnavailableError, AccessError) as error:
            await self._wait_for_database(error)
            return None
        self._failures = 0
        return claim

    async def _claim_and_launch(self, limit: int) -> Claim:
        self._holdings.expect(limit)
        try:
            claim = await self._claim(limit)
            for task in claim.tasks:
                self._launch(task)
            return claim
        finally:
            self._holdings.expect(0)

    async def _claim(self, limit: int) -> Claim:
        began = self._clock()
        self._events.emit(PollStarted(worker=self._info, active_tasks=self._holdings.occupied))
        claim = Claim()
        try:
            claim = await self._source.claim(limit, self._holdings.message_ids())
            return claim
        finally:
            self._events.emit(
                PollStopped(
                    worker=self._info,
                    active_tasks=self._holdings.occupied,
                    task_count=len(claim.tasks),
                    unstartable=claim.unstartable,
                    duration=self._clock() - began,
                )
            )

    async def _sleep(self, claim: Claim) -> None:
        if self._wakeup.wants_due:
            try:
                due = await self._source.next_due()
            except DatabaseUnavailableError as error:
                await self._wait_for_database(error)
                return
            if due is not None:
                self._wakeup.due_in(due)
        await self._wakeup.sleep(found=bool(claim.tasks))

    async def _wait_for_database(self, error: Exception) -> None:
        self._failures += 1
        delay = backoff(self._failures, self._randomness)
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        logger.log(level, "%s cannot claim, next try in %.1f s: %s", self._info.worker_name, delay, error)
        await self._pause(delay, until_kicked=False)

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
