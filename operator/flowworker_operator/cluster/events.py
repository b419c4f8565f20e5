"""Events on FlowWorkers, as `kubectl describe` shows them, written in the background.

An event is worth neither a failed nor a delayed reconcile: `record` only remembers, a task of our own writes, and what
cannot be written, for whatever reason, is dropped in the end.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from flowworker_operator.bounded import Allowance, Purse, Shares, spent
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import AlreadyExists, ClusterError, NotFound, Unavailable
from flowworker_operator.cluster.occurrence import Occurrence, together
from flowworker_operator.cluster.resources import EVENTS
from flowworker_operator.domain.plan import Event
from flowworker_operator.domain.snapshot import Claim

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits on how many events are written and remembered."""

    allowance: Allowance = field(default_factory=lambda: Allowance(burst=25, per_second=1 / 60))
    """Of each FlowWorker, for normal events and for warnings apart: chatter must not hide a fault."""
    waiting: int = 500
    """Events that wait for the API server; the eldest of the namespace with most of them give way."""
    known: int = 2000
    """Objects whose count is remembered, and FlowWorkers whose allowance is, in equal shares of the namespaces."""
    first_pause: float = 1.0
    """Seconds to wait when the API server does not answer; twice as long each time."""
    longest_pause: float = 30.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class EventRecorder:
    """Writes events from the beginning of an `async with` block to its end."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        instance: str,
        bounds: Bounds | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = _utc_now,
    ) -> None:
        """Prepare; `instance` is the name of the operator's pod."""
        self._cluster = cluster
        self._instance = instance
        self._bounds = bounds or Bounds()
        self._clock = clock
        self._wall = wall
        self._waiting: Shares[str, Occurrence] = Shares(self._bounds.waiting)
        self._counts: Shares[str, int] = Shares(self._bounds.known)
        self._purses: Shares[tuple[str, str], Purse] = Shares(2 * self._bounds.known)
        self._news = asyncio.Event()
        self._closing = False
        self._pause = self._bounds.first_pause
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        """Events that were not written: there were too many, or the API server did not take them."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="events")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def record(self, claim: Claim, event: Event) -> bool:
        """Queue an event about a FlowWorker; returns at once whether it is among those that are written."""
        if self._closing or not self._affordable(claim, event):
            self.dropped += 1
            return False
        now = self._wall()
        occurrence = Occurrence(claim=claim, event=event, count=1, first=now, last=now)
        joined = together(self._waiting.get(*occurrence.key), occurrence)
        if (displaced := self._waiting.set(*occurrence.key, joined)) is not None:
            self.dropped += displaced.count
        self._news.set()
        return True

    async def close(self, patience: float = 5.0) -> None:
        """Write what is waiting, for so many seconds at most, and end."""
        self._closing = True
        self._news.set()
        if self._task is None:
            return
        try:
            await asyncio.wait({self._task}, timeout=patience)
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._waiting:
            self.dropped += sum(left.count for left in self._waiting.values())
            logger.warning("%d events were not written: the API server took too long", len(self._waiting))
            self._waiting.retain(lambda _: False)

    def _affordable(self, claim: Claim, event: Event) -> bool:
        key = (claim.uid, event.type)
        purse = spent(self._purses.get(claim.namespace, key), self._bounds.allowance, self._clock())
        if purse is not None:
            self._purses.set(claim.namespace, key, purse)
        return purse is not None

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if self._waiting:
                await self._deliver(self._waiting.take())
            else:
                self._news.clear()
                await self._news.wait()

    async def _deliver(self, occurrence: Occurrence) -> None:
        try:
            await self._write(occurrence)
            self._pause = self._bounds.first_pause
        except Unavailable as error:
            self._put_back(occurrence)
            await asyncio.sleep(error.retry_after or self._pause)
            self._pause = min(2 * self._pause, self._bounds.longest_pause)
        except asyncio.CancelledError:
            self._put_back(occurrence)
            raise
        except ClusterError as error:
            self.dropped += occurrence.count
            logger.warning("an event of %s was not taken: %s", "/".join(occurrence.key), error)
        except Exception:
            self.dropped += occurrence.count
            logger.exception("an event of %s could not be written", "/".join(occurrence.key))

    def _put_back(self, occurrence: Occurrence) -> None:
        """To the front, joined with what has happened since."""
        later = self._waiting.get(*occurrence.key)
        joined = occurrence if later is None else together(occurrence, later)
        if (displaced := self._waiting.set(*occurrence.key, joined, first=True)) is not None:
            self.dropped += displaced.count

    async def _write(self, occurrence: Occurrence) -> None:
        if (count := self._counts.get(*occurrence.key)) is not None:
            try:
                return await self._count_up(occurrence, count)
            except NotFound:  # an event lives for an hour, unless it is repeated
                self._counts.drop(*occurrence.key)
        try:
            await self._cluster.create(EVENTS, occurrence.manifest(self._instance))
            self._counts.set(*occurrence.key, occurrence.count)
        except AlreadyExists:  # written before we started, or long ago
            found = await self._cluster.patch(EVENTS, *occurrence.key, {})  # reads, with the rights we have
            await self._count_up(occurrence, found.get("count") or 0)

    async def _count_up(self, occurrence: Occurrence, before: int) -> None:
        await self._cluster.patch(EVENTS, *occurrence.key, occurrence.repetition(before))
        self._counts.set(*occurrence.key, before + occurrence.count)
