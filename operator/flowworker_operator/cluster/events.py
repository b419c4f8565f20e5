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

from flowworker_operator.bounded import RateLimit, Shares, TokenBucket, take_token
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import AlreadyExists, ClusterError, NotFound, Unavailable
from flowworker_operator.cluster.event_series import EventSeries, merged
from flowworker_operator.cluster.resources import EVENTS
from flowworker_operator.domain.plan import Event
from flowworker_operator.domain.snapshot import Claim

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Limits on how many events are written and remembered."""

    allowance: RateLimit = field(default_factory=lambda: RateLimit(burst=25, per_second=1 / 60))
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
        self._waiting: Shares[str, EventSeries] = Shares(self._bounds.waiting)
        self._counts: Shares[str, int] = Shares(self._bounds.known)
        self._buckets: Shares[tuple[str, str], TokenBucket] = Shares(2 * self._bounds.known)
        self._queued = asyncio.Event()
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
        series = EventSeries(claim=claim, event=event, count=1, first=now, last=now)
        joined = merged(self._waiting.get(*series.key), series)
        if (displaced := self._waiting.set(*series.key, joined)) is not None:
            self.dropped += displaced.count
        self._queued.set()
        return True

    async def close(self, patience: float = 5.0) -> None:
        """Write what is waiting, for so many seconds at most, and end."""
        self._closing = True
        self._queued.set()
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
        bucket = take_token(self._buckets.get(claim.namespace, key), self._bounds.allowance, self._clock())
        if bucket is not None:
            self._buckets.set(claim.namespace, key, bucket)
        return bucket is not None

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if self._waiting:
                await self._deliver(self._waiting.take())
            else:
                self._queued.clear()
                await self._queued.wait()

    async def _deliver(self, series: EventSeries) -> None:
        try:
            await self._write(series)
            self._pause = self._bounds.first_pause
        except Unavailable as error:
            self._put_back(series)
            await asyncio.sleep(error.retry_after or self._pause)
            self._pause = min(2 * self._pause, self._bounds.longest_pause)
        except asyncio.CancelledError:
            self._put_back(series)
            raise
        except ClusterError as error:
            self.dropped += series.count
            logger.warning("an event of %s was not taken: %s", "/".join(series.key), error)
        except Exception:
            self.dropped += series.count
            logger.exception("an event of %s could not be written", "/".join(series.key))

    def _put_back(self, series: EventSeries) -> None:
        """To the front, joined with what has happened since."""
        later = self._waiting.get(*series.key)
        joined = series if later is None else merged(series, later)
        if (displaced := self._waiting.set(*series.key, joined, first=True)) is not None:
            self.dropped += displaced.count

    async def _write(self, series: EventSeries) -> None:
        if (count := self._counts.get(*series.key)) is not None:
            try:
                return await self._count_up(series, count)
            except NotFound:  # an event lives for an hour, unless it is repeated
                self._counts.drop(*series.key)
        try:
            await self._cluster.create(EVENTS, series.manifest(self._instance))
            self._counts.set(*series.key, series.count)
        except AlreadyExists:  # written before we started, or long ago
            found = await self._cluster.patch(EVENTS, *series.key, {})  # reads, with the rights we have
            await self._count_up(series, found.get("count") or 0)

    async def _count_up(self, series: EventSeries, before: int) -> None:
        await self._cluster.patch(EVENTS, *series.key, series.repetition(before))
        self._counts.set(*series.key, before + series.count)
