"""Who of several operators acts: the one that holds a Lease.

The client library brings an election of its own; it trusts the wall clock, does not notice that a frozen process
lost the lease, and never releases it. This one promises:

* `held` is true for `deadline` seconds after the beginning of the last renewal that succeeded, by a clock that goes on
  while the process or the machine sleeps. A leader that was frozen therefore knows at its first look.
* A candidate takes the lease only when it has been unchanged for its whole duration, which is longer than the deadline,
  by the candidate's own clock; every write carries the version that was read. So no two operators hold it at once.
* A process that can do nothing as the leader does not take the lease, and releases it after UNABLE_FOR.
* `held` says that no other process acts now, not that a pending request arrives in time: writes need preconditions too.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import AlreadyExists, ClusterError, Conflict
from flowworker_operator.cluster.lease import (
    Record,
    Sighting,
    Timing,
    claimed,
    new_lease,
    released,
    sighted,
    wait_for,
)
from flowworker_operator.cluster.resources import LEASES, Object

UNABLE_FOR = 10.0
"""Seconds for which a leader may be able to do nothing before it lets another one try."""
RELEASE_PATIENCE = 2.0
"""Seconds that a stopping leader spends on giving the lease back; after that it runs out by itself."""

logger = logging.getLogger(__name__)


def awake_or_asleep() -> float:
    """Seconds of a monotonic clock that counts the sleep of the machine too, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Leadership:
    """One candidate for one Lease."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing | None = None,
        clock: Callable[[], float] = awake_or_asleep,
        wall: Callable[[], datetime] = _utc_now,
        incarnation: str | None = None,
        able: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare; nothing happens before `run`.

        Args:
            cluster: where the Lease is.
            namespace: of the Lease.
            name: of the Lease.
            identity: for people, for example the name of the pod.
            timing: durations; unset: 15, 10 and 2 seconds.
            clock: monotonic seconds.
            wall: the time of day, which is only written, never compared.
            incarnation: distinguishes this process from others of the same identity; unset: random.
            able: whether there is anything that this process could do as the leader.
        """
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._timing = timing or Timing()
        self._clock = clock
        self._wall = wall
        self._able = able
        self._unable_since: float | None = None
        self._sighting: Sighting | None = None
        self._renewed_at: float | None = None
        self._led = False
        self._renewed = asyncio.Event()
        self._complaint = ""
        self.identity = f"{identity}_{incarnation or uuid4()}"
        """Under which the lease is held."""

    @property
    def held(self) -> bool:
        """Whether we may act at this very moment."""
        return self._renewed_at is not None and self._clock() < self._renewed_at + self._timing.deadline

    @property
    def holder(self) -> str:
        """Who held the lease when it was last seen; empty when it was free."""
        return "" if self._sighting is None else self._sighting.record.holder

    @property
    def transitions(self) -> int:
        """How often the lease had changed hands when it was last seen."""
        return 0 if self._sighting is None else self._sighting.record.transitions

    async def wait_held(self) -> None:
        """Return as soon as we may act."""
        while not self.held:
            self._renewed.clear()
            await self._renewed.wait()

    async def run(self) -> None:
        """Take and keep the lease until cancelled, then give it back; whatever acts must have ended by then."""
        try:
            while True:
                self._log_change()
                pause = await self._attempt()
                self._log_change()
                await asyncio.sleep(pause)
        finally:
            await self._release()

    async def _attempt(self) -> float:
        """Try once; returns the seconds until the next try."""
        pause = self._timing.retry
        try:
            async with asyncio.timeout(self._timing.attempt):
                if self._stands_back():
                    await self._give_back()
                else:
                    pause = min(pause, await self._take() or pause)
                self._complaint = ""
        except (AlreadyExists, Conflict) as error:
            logger.debug("another process wrote the lease: %s", error)
        except (ClusterError, TimeoutError) as error:
            self._complain(str(error) or "the API server did not answer in time")
        return pause

    def _stands_back(self) -> bool:
        """Whether to leave the lease to others: a candidate that is unable at once, a leader after some patience."""
        if self._able():
            self._unable_since = None
            return False
        if self._unable_since is None:
            self._unable_since = self._clock()
        return not self.held or self._clock() - self._unable_since >= UNABLE_FOR

    async def _give_back(self) -> None:
        if self.held:
            logger.warning("%s can do nothing as the leader", self.identity)
            self._renewed_at = None
        lease = await self._look()
        if lease is not None and self.holder == self.identity:
            self._see(await self._write(lease, released(self._wall())))
            logger.info("%s gave the lease back", self.identity)

    async def _take(self) -> float:
        """Take or renew the lease; returns the seconds until it may be taken, 0 when it was."""
        began = self._clock()
        lease = await self._look()
        if patience := wait_for(self._sighting, self.identity, self._clock()):
            self._renewed_at = None
            return patience
        spec = claimed(self._predecessor(lease), self.identity, self._wall(), self._timing)
        written = await self._write(lease, spec)
        self._see(written)
        self._renewed_at = began
        self._renewed.set()
        return 0.0

    def _predecessor(self, lease: Object | None) -> Record | None:
        """The last record we know of, without its holder if the Lease was deleted: others may have led in between."""
        if self._sighting is None:
            return None
        record = self._sighting.record
        return record if lease is not None else replace(record, holder="")

    async def _look(self) -> Object | None:
        lease = await self._cluster.get(LEASES, self._namespace, self._name)
        if lease is not None:
            self._see(lease)
        return lease

    def _see(self, lease: Object) -> None:
        self._sighting = sighted(Record.of(lease, self._timing), self._sighting, self._clock())

    async def _write(self, lease: Object | None, spec: Object) -> Object:
        if lease is None:
            return await self._cluster.create(LEASES, new_lease(self._namespace, self._name, spec))
        version = lease["metadata"]["resourceVersion"]
        return await self._cluster.patch(LEASES, self._namespace, self._name, {"spec": spec}, resource_version=version)

    async def _release(self) -> None:
        self._renewed_at, self._led = None, False
        with suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(RELEASE_PATIENCE):
                await self._give_back()

    def _log_change(self) -> None:
        """Log a change; at both ends of a pause, for it may have been long enough to lose and regain the lease."""
        if self.held == self._led:
            return
        self._led = self.held
        if self._led:
            logger.info("%s leads", self.identity)
        else:
            logger.warning("%s does not lead any more", self.identity)

    def _complain(self, complaint: str) -> None:
        """Once each: an attempt follows every other second."""
        if complaint != self._complaint:
            self._complaint = complaint
            logger.warning("cannot renew or take the lease %s/%s: %s", self._namespace, self._name, complaint)
