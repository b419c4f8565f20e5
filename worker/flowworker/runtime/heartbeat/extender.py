"""Keeps what is held by all workers of a process: leases of jobs, fences and messages of flow tasks.

Each of the three is one statement, however many workers there are. A table that is locked must cost no other queue its
leases: the server ends a statement that waits for a lock soon (`LOCK_TIMEOUT` of the connection), and then each queue
has a statement of its own, those in trouble last and after a pause.
"""

import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from flowworker.database.flow_results import Fence
from flowworker.database.queue_jobs import JobFence
from flowworker.database.records import SourceKind
from flowworker.errors import FlowWorkerError
from flowworker.runtime.backoff import Randomness, backoff
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.source import Source

logger = logging.getLogger(__name__)

BEAT_INTERVAL = 3.0
"""Seconds between two heartbeats."""

LOOKED_AT_AFTER = 1.0
"""Seconds for which something is held before a heartbeat looks whether it still is: so a handler of what was
cancelled is notified at most this long and one interval later, and what is short costs no look."""

OUTAGE_AFTER = 10.0
"""Seconds without a successful heartbeat after which the leases of jobs may have lapsed."""

MARGIN = 10.0
"""Seconds before the end of its visibility from which on the message of a flow task that is still held is prolonged."""

TROUBLE_CAP = 2.0
"""Longest pause in seconds before a queue in trouble is tried again: its leases lapse meanwhile."""


class Leases(Protocol):
    """What the database does; each call is one statement and raises whatever the driver does."""

    async def extend_jobs(self, jobs: Sequence[tuple[str, JobFence]]) -> Sequence[int]:
        """Prolong leases; return the positions of those that were lost."""
        ...

    async def lost_fences(self, fences: Sequence[Fence]) -> Sequence[int]:
        """Return the positions of tasks that are no longer held."""
        ...

    async def prolong(self, queue_name: str, msg_ids: Sequence[int], *, seconds: float) -> Mapping[int, datetime]:
        """Keep messages invisible; return until when."""
        ...


class Holder(Protocol):
    """A worker, as far as it holds something."""

    @property
    def worker_id(self) -> UUID: ...

    @property
    def source(self) -> Source: ...

    def owned(self) -> Sequence[HeldTask]: ...

    def on_lost_leases(self, held_tasks: Sequence[HeldTask]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One held task with its holder."""

    holder: Holder
    held_task: HeldTask

    @property
    def queue_name(self) -> str:
        return self.holder.source.queue_name

    @property
    def job(self) -> tuple[str, JobFence]:
        task = self.held_task.task
        return self.queue_name, JobFence.of(task)

    @property
    def fence(self) -> Fence:
        task = self.held_task.task
        assert task.run_id is not None
        assert task.started_at is not None
        return Fence(
            worker_id=self.holder.worker_id,
            run_id=task.run_id,
            step_slug=task.step_slug,
            task_index=task.task_index,
            attempt=task.attempt,
            started_at=task.started_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A queue whose leases could not be prolonged."""

    failures: int
    retry_at: float


@dataclass(slots=True, kw_only=True)
class Extender:
    """One round of it after the other; belongs to the heartbeat's event loop."""

    leases: Leases
    server_now: Callable[[], datetime | None]
    """The database's clock; None while it is not known."""
    clock: Callable[[], float]
    randomness: Randomness = random.random
    _troubles: dict[str, Trouble] = field(default_factory=dict[str, Trouble])
    _visible: dict[int, datetime] = field(default_factory=dict[int, datetime])
    """Until when the messages that were prolonged are invisible, by the identity of their held task."""

    async def round(self, holders: Iterable[Holder]) -> None:
        """Prolong the leases that need it, and notify holders of what they have lost."""
        now = self.clock()
        held = [
            Lease(holder=holder, held_task=held_task)
            for holder in holders
            for held_task in to_extend(holder.owned(), now=now)
        ]
        jobs = [lease for lease in held if lease.holder.source.kind is SourceKind.QUEUE]
        tasks = [lease for lease in held if lease.holder.source.kind is SourceKind.FLOW]
        sound, troubled = self._by_trouble(jobs, now)
        await self._extend_together(sound)
        try:
            await self._check(tasks)
        finally:
            for leases in troubled:
                await self._extend_alone(leases)

    def _by_trouble(self, jobs: Sequence[Lease], now: float) -> tuple[Sequence[Lease], Sequence[Sequence[Lease]]]:
        """Jobs of queues that are well, and by queue those of the others that are due again."""
        queues = _by_queue(jobs)
        self._troubles = {name: trouble for name, trouble in self._troubles.items() if name in queues}
        sound = [lease for name, leases in queues.items() if name not in self._troubles for lease in leases]
        due = [queues[name] for name, trouble in self._troubles.items() if trouble.retry_at <= now]
        return sound, due

    async def _extend_together(self, jobs: Sequence[Lease]) -> None:
        if not jobs:
            return
        try:
            await self._extend(jobs)
        except Exception as error:  # noqa: BLE001 - one of the queues is in trouble: find out which
            queues = _by_queue(jobs)
            if len(queues) == 1:
                self._note(jobs[0].queue_name, error)
                return
            logger.debug("the leases of %d queues are prolonged one by one: %s", len(queues), error)
            for leases in queues.values():
                await self._extend_alone(leases)

    async def _extend_alone(self, jobs: Sequence[Lease]) -> None:
        queue_name = jobs[0].queue_name
        try:
            await self._extend(jobs)
        except Exception as error:  # noqa: BLE001 - the others must not wait for it
            self._note(queue_name, error)
        else:
            if self._troubles.pop(queue_name, None) is not None:
                logger.info("the leases of queue %s are prolonged again", queue_name)

    async def _extend(self, jobs: Sequence[Lease]) -> None:
        lost = await self.leases.extend_jobs([lease.job for lease in jobs])
        _report_lost([jobs[position] for position in lost])

    def _note(self, queue_name: str, error: Exception) -> None:
        before = self._troubles.get(queue_name)
        failures = 1 if before is None else before.failures + 1
        pause = backoff(failures, self.randomness, cap=TROUBLE_CAP)
        self._troubles[queue_name] = Trouble(failures=failures, retry_at=self.clock() + pause)
        level = logging.WARNING if failures == 1 else logging.DEBUG
        unexpected = not isinstance(error, FlowWorkerError) and type(error).__module__ != "asyncpg.exceptions"
        logger.log(
            level, "the leases of queue %s could not be prolonged: %s", queue_name, error,
            exc_info=error if unexpected else None,
        )  # fmt: skip

    async def _check(self, tasks: Sequence[Lease]) -> None:
        if not tasks:
            return
        lost = set(await self.leases.lost_fences([lease.fence for lease in tasks]))
        _report_lost([tasks[position] for position in sorted(lost)])
        kept = [lease for position, lease in enumerate(tasks) if position not in lost]
        ids = {id(lease.held_task) for lease in kept}
        self._visible = {key: moment for key, moment in self._visible.items() if key in ids}
        for queue_name, leases in _by_queue([lease for lease in kept if self._is_ending(lease)]).items():
            await self._prolong(queue_name, leases)

    def _is_ending(self, lease: Lease) -> bool:
        now = self.server_now()
        ends = self._visible.get(id(lease.held_task), lease.held_task.task.visible_at)
        return now is None or ends < now + timedelta(seconds=MARGIN)

    async def _prolong(self, queue_name: str, tasks: Sequence[Lease]) -> None:
        ids = [lease.held_task.task.msg_id for lease in tasks]
        try:
            visible = await self.leases.prolong(queue_name, ids, seconds=2 * MARGIN)
        except Exception as error:  # noqa: BLE001 - a message that becomes visible is read in vain, no more
            logger.debug("messages of %s could not be prolonged: %s", queue_name, error)
            return
        for lease in tasks:
            if (moment := visible.get(lease.held_task.task.msg_id)) is not None:
                self._visible[id(lease.held_task)] = moment


def _by_queue(leases: Iterable[Lease]) -> dict[str, list[Lease]]:
    found: defaultdict[str, list[Lease]] = defaultdict(list)
    for lease in leases:
        found[lease.queue_name].append(lease)
    return dict(found)


def _report_lost(lost: Iterable[Lease]) -> None:
    by_holder: defaultdict[UUID, list[Lease]] = defaultdict(list)
    for lease in lost:
        by_holder[lease.holder.worker_id].append(lease)
    for leases in by_holder.values():
        leases[0].holder.on_lost_leases([lease.held_task for lease in leases])


def to_extend(held_tasks: Iterable[HeldTask], *, now: float) -> Sequence[HeldTask]:
    """What is held for a while; a younger lease lasts beyond the next beat anyway."""
    return tuple(held_task for held_task in held_tasks if now - held_task.claimed_at >= LOOKED_AT_AFTER)
