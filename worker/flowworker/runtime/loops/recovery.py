"""Gives back what dead workers left behind: at once when a peer is found dead, and slowly for everything else."""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from flowworker.database.faults import is_passing
from flowworker.database.records import Peer
from flowworker.runtime.held_tasks import HeldTasks
from flowworker.runtime.loops.wakeup import Uniform, Wakeup
from flowworker.runtime.service import Crash, Service
from flowworker.runtime.source import Recovery, Source
from flowworker.telemetry.events import WorkerInfo, WorkerLost
from flowworker.telemetry.stream import EventStream

logger = logging.getLogger(__name__)

SWEEP_INTERVAL = (45.0, 75.0)
"""Seconds between two thorough passes; random within, so that a fleet takes turns."""

PENDING_INTERVAL = 2.0
"""Seconds until the next pass while the run of something is locked."""

AFTER_LOSS = 20.0
"""Seconds after a loss for which passes come more often: a claim of the dead may be committed later."""

AFTER_LOSS_INTERVAL = 5.0

PROGRESS = 600.0
"""Seconds for which a task must have been held before its losses are forgotten: whatever killed its workers, it was not
the task. Without this, four preempted nodes would fail a task of days."""


class Rescuer(Service):
    """The loop that recovers. Several workers may find the same peer dead: the database lets one act."""

    def __init__(
        self, *, source: Source, held_tasks: HeldTasks, events: EventStream, info: WorkerInfo,
        wakeup: Wakeup, on_crash: Crash, clock: Callable[[], float],
        uniform: Uniform = random.uniform,
    ) -> None:  # fmt: skip
        """Wire it up.

        Args:
            source: what is recovered.
            held_tasks: what this worker holds.
            events: receives an event for each peer that is marked lost.
            info: which worker this is.
            wakeup: ends the poller's sleep when tasks have become startable again.
            on_crash: called when the loop ends by itself.
            clock: monotonic seconds.
            uniform: spreads the passes.
        """
        super().__init__(f"rescuer of {info.worker_name}", on_crash)
        self._source = source
        self._events = events
        self._info = info
        self._wakeup = wakeup
        self._held_tasks = held_tasks
        self._clock = clock
        self._uniform = uniform
        self._lost_at = float("-inf")
        self._forgiven: set[int] = set()
        self._dead: Mapping[UUID, Peer] = {}
        self._asked = asyncio.Event()

    def found_dead(self, peers: Sequence[Peer]) -> None:
        """These peers are dead, as of the last beat."""
        self._dead = {peer.worker_id: peer for peer in peers}
        if peers:
            self._asked.set()

    def sweep_soon(self) -> None:
        """Do a pass without waiting for its time: a worker has left."""
        self._asked.set()

    async def _run(self) -> None:
        thorough_at = self._clock() + self._uniform(*SWEEP_INTERVAL)
        while True:
            self._asked.clear()
            thorough = self._clock() >= thorough_at
            pending = await self._pass(thorough=thorough)
            if thorough:
                await self._forgive()
                thorough_at = self._clock() + self._uniform(*SWEEP_INTERVAL)
            try:
                async with asyncio.timeout(min(self._pause(pending), max(0.0, thorough_at - self._clock()))):
                    await self._asked.wait()
            except TimeoutError:
                continue

    def _pause(self, pending: int) -> float:
        if pending:
            return PENDING_INTERVAL
        if self._clock() - self._lost_at < AFTER_LOSS:
            return AFTER_LOSS_INTERVAL
        return math.inf

    async def _pass(self, *, thorough: bool) -> int:
        """Recover once; returns how many tasks wait for a lock."""
        held = self._held_tasks.message_ids if thorough else None
        try:
            recovery = await self._source.recover(tuple(self._dead.values()), held)
        except Exception as error:
            expected = is_passing(error)
            logger.log(
                logging.DEBUG if expected else logging.WARNING,
                "%s could not recover, the next pass tries again: %s", self._info.worker_name, error,
                exc_info=None if expected else error,
            )  # fmt: skip
            return 0
        if recovery.lost:
            self._lost_at = self._clock()
        self._report(recovery)
        if recovery.released or recovery.failed or recovery.archived:
            self._wakeup.nudge()
        return recovery.pending

    async def _forgive(self) -> None:
        """Forget the losses of what has been held for long."""
        now = self._clock()
        known = {id(held_task): held_task for held_task in self._held_tasks.owned() if held_task.task.losses}
        self._forgiven &= known.keys()
        due = [
            place
            for place, held_task in known.items()
            if place not in self._forgiven and now - held_task.claimed_at >= PROGRESS
        ]
        if not due:
            return
        try:
            await self._source.forgive([known[place].task for place in due])
        except Exception as error:  # noqa: BLE001 - the next pass tries again
            logger.debug("%s could not forget losses: %s", self._info.worker_name, error)
            return
        self._forgiven.update(due)

    def _report(self, recovery: Recovery) -> None:
        for note in recovery.notes:
            logger.info("%s: %s", self._info.worker_name, note)
        for worker_id in recovery.lost:
            self._events.emit(
                WorkerLost(
                    worker=self._info,
                    lost_worker_id=worker_id,
                    released=recovery.released,
                    failed=recovery.failed,
                )
            )
