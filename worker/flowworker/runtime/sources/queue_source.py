"""The source of a plain pgmq queue: leases instead of claims, our own fenced finish, no pgflow anywhere."""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID
from weakref import WeakKeyDictionary

from flowworker.database import flow_tasks, leases, queue_jobs
from flowworker.database.connection import Connection
from flowworker.database.faults import REFUSED_VALUES, translated
from flowworker.database.leases import PARKED_FOR, JobFence
from flowworker.database.link import Limits, Links
from flowworker.database.lost_peers import LostPeers
from flowworker.database.queue_jobs import PutBack, ReadJob
from flowworker.database.records import ClaimedTask, Failed, FailureKind, Peer, SourceKind, TaskResult
from flowworker.database.server_clock import ServerClock
from flowworker.database.statements import load
from flowworker.database.stranded import CRASH_BUDGET, crash_message, waits
from flowworker.definition.queue import Queue
from flowworker.errors import UnknownQueueError, UnknownRunError
from flowworker.runtime.source import Claim, Finish, Recovery
from flowworker.runtime.sources.claiming import ClaimLane, beside_claims, with_more_time
from flowworker.runtime.sources.queue_writer import QueueWriter
from flowworker.runtime.sources.writing import ResultLane, write_all, write_kinds

logger = logging.getLogger(__name__)

THOROUGH_INTERVAL = 1.0
"""Seconds between two claims that look at jobs of other workers, while the queue is long."""


class QueueSource:
    """Jobs of one pgmq queue for one worker."""

    def __init__(self, *, queue: Queue, worker_id: UUID, links: Links, has_watched: Callable[[], bool]) -> None:
        """Open nothing yet.

        Args:
            queue: the definition; its options apply to every job.
            worker_id: written into the headers of ended jobs.
            links: the connections of the process.
            has_watched: whether this process has had the database for as long as the living take to show themselves.
        """
        self._queue = queue
        self._worker_id = worker_id
        self._links = links
        self._has_watched = has_watched
        self._clock = ServerClock()
        self._lane = ClaimLane(links)
        self._lost_peers = LostPeers()
        self._refusing: dict[int, float] = {}
        self._busy = False
        self._thorough_at = -math.inf
        self._planned_at: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    @property
    def kind(self) -> SourceKind:
        return SourceKind.QUEUE

    @property
    def slug(self) -> str:
        return self._queue.name

    @property
    def queue_name(self) -> str:
        return self._queue.name

    @property
    def doubts(self) -> int:
        """A lease whose reply was lost runs out by itself."""
        return 0

    async def prepare(self) -> None:
        """Look at the catalogue, and check that the queue exists.

        Raises:
            UnknownQueueError: it does not.
        """
        await self._links.on_claim(self._prepare)

    async def _prepare(self, connection: Connection) -> None:
        with translated(f"serve queue {self.slug!r}"):
            known = await queue_jobs.exists(connection, self.slug)
        if not known:
            raise UnknownQueueError(
                f"the database has no queue {self.slug!r}; create it with SELECT pgmq.create('{self.slug}') "
                "or `flowworker flows compile MODULE:OBJECT`"
            )
        await leases.prepare_begun(connection, await self._links.known.renew(connection))

    async def claim(self, limit: int, held: Collection[int]) -> Claim:
        """Lease at most `limit` jobs. See `Source.claim`.

        A job whose workers died too often is failed here instead of being handed out. A lease whose reply was lost
        simply runs out; what is held here is not taken once more when its own lease has run out.
        """
        if self._lane.is_stuck:
            await with_more_time(self._links, self._park)
        without = {*held, *self._passed_over()}
        return await self._lane.run(limit, lambda connection, asked: self._claim(connection, asked, without))

    async def begun(self, claimed_at: datetime) -> None:
        """Record that handlers have begun. See `Source.begun`."""
        await self._links.on_claim(lambda connection: self._begun(connection, claimed_at))

    async def _begun(self, connection: Connection, claimed_at: datetime) -> None:
        await leases.begun(connection, await self._links.known.of(connection), self._worker_id, claimed_at)

    async def _claim(self, connection: Connection, limit: int, held: Collection[int]) -> Claim:
        features = await self._links.known.of(connection)
        thorough = await self._turns_thorough(connection)
        found = await queue_jobs.claim(
            connection, features, self.slug, self._worker_id, limit,
            held=held, clock=self._clock, watched=self._has_watched(), thorough=thorough,
        )  # fmt: skip
        self._busy = len(found.jobs) >= limit
        doomed = [job for job in found.jobs if job.losses > CRASH_BUDGET]
        if doomed:
            await self._end_doomed(connection, doomed)
        living = [job for job in found.jobs if job.losses <= CRASH_BUDGET]
        later = waits({job.msg_id: job.losses for job in living})
        if any(later.values()):
            await self._put_off(connection, {job: later[job.msg_id] for job in living if later[job.msg_id]})
        return Claim(
            tasks=[claimed_task(job, self._queue) for job in living if not later[job.msg_id]],
            read=len(found.jobs),
            unstartable=len(doomed),
            claimed_at=found.ticket.claimed_at,
            fenced=found.ticket.fenced,
        )

    async def _turns_thorough(self, connection: Connection) -> bool:
        """Whether the next claim is to look at jobs of other workers: the first one, and one in each interval.

        The others have a plan that each session keeps. It is renewed as often, because the one for a queue of ten jobs
        would sort a million.
        """
        now = time.monotonic()
        if not self._busy or now - self._thorough_at >= THOROUGH_INTERVAL:
            self._thorough_at = now
            return True
        if now - self._planned_at.get(connection, -math.inf) >= THOROUGH_INTERVAL:
            self._planned_at[connection] = now
            await connection.execute(load("session/replan"))
        return False

    async def _end_doomed(self, connection: Connection, doomed: Sequence[ReadJob]) -> None:
        """The jobs claimed with them must not wait for this: what cannot be written now comes back with its lease."""
        losses = [final_loss(job, self._queue) for job in doomed]
        finish = await write_all(
            losses,
            lambda batch: write_kinds(batch.entries, self._writer(connection, batch.skip_locked)),
            patient=False,
        )
        for left in finish.unsettled:
            logger.warning("queue %r: a job past its crash budget could not be ended now: %s", self.slug, left.error)

    async def _put_off(self, connection: Connection, jobs: Mapping[ReadJob, float]) -> None:
        """Start jobs that were lost together one by one, so that a culprit is alone when it kills its worker again."""
        logger.warning(
            "queue %r: %d jobs were lost together more than once, and start one by one", self.slug, len(jobs)
        )
        back = [
            PutBack(
                fence=JobFence(msg_id=job.msg_id, read_count=job.read_count, enqueued_at=job.enqueued_at),
                ours=b"{}",
                delay=delay,
            )
            for job, delay in jobs.items()
        ]
        await queue_jobs.put_back(connection, self.slug, back, skip_locked=True)

    async def _park(self, connection: Connection) -> None:
        """Put off the job at the head; where its row refuses any change, pass it over here."""
        reason, passed_over = self._lane.unstick(), self._passed_over()
        try:
            await leases.park(connection, self.slug, order="q.vt", reason=reason, without=passed_over)
        except REFUSED_VALUES:
            refusing = await leases.head(connection, self.slug, without=passed_over)
            if refusing is None:
                return
            self._refusing[refusing] = time.monotonic() + PARKED_FOR
            logger.warning(
                "queue %r: message %d can be neither claimed nor put off, and is passed over for %.0f s: %s",
                self.slug, refusing, PARKED_FOR, reason,
            )  # fmt: skip

    def _passed_over(self) -> Collection[int]:
        """The ids of jobs whose rows refuse any change, for a while."""
        now = time.monotonic()
        self._refusing = {msg_id: until for msg_id, until in self._refusing.items() if until > now}
        return self._refusing.keys()

    async def finish(
        self, results: Sequence[TaskResult], *, patience: Limits | None = None, waits_for_lock: bool = False
    ) -> Finish:
        """Write results behind the fence. See `Source.finish`."""
        lane = ResultLane(links=self._links, make_writer=self._writer, patience=patience, waits_for_lock=waits_for_lock)
        return await write_all(results, lane.try_once, patient=lane.patient)

    def _writer(self, connection: Connection, skip_locked: bool) -> QueueWriter:
        return QueueWriter(
            connection=connection,
            known=self._links.known,
            queue_name=self.slug,
            options=self._queue.options,
            worker_id=self._worker_id,
            skip_locked=skip_locked,
        )

    async def next_due(self) -> float | None:
        """Seconds until the earliest invisible job becomes visible."""
        return await self._links.on_claim(lambda connection: flow_tasks.next_due(connection, self.slug))

    async def flow_input(self, run_id: UUID) -> bytes:
        """Always refused.

        Raises:
            UnknownRunError: a job belongs to no run.
        """
        raise UnknownRunError(f"queue {self.slug!r} has no runs, so none with id {run_id}")

    async def recover(self, dead: Collection[Peer], held: Callable[[], Collection[int]] | None = None) -> Recovery:
        """Mark dead peers lost; their jobs come back by themselves when the leases run out."""
        if not dead:
            return Recovery()
        lost = await beside_claims(self._links, lambda connection: self._lost_peers.mark(connection, self.slug, dead))
        return Recovery(lost=lost, notes=[f"worker {worker_id} is lost: its heartbeat stopped" for worker_id in lost])

    async def forgive(self, tasks: Sequence[ClaimedTask]) -> None:
        """Forget losses. See `Source.forgive`."""
        fences = [JobFence.of(task) for task in tasks]
        await self._links.on_claim(lambda connection: leases.forgive(connection, self.slug, fences))


def claimed_task(job: ReadJob, queue: Queue) -> ClaimedTask:
    """A job in the runtime's words."""
    return ClaimedTask(
        msg_id=job.msg_id,
        run_id=None,
        step_slug=queue.name,
        task_index=0,
        attempt=job.attempt,
        max_attempts=queue.options.max_attempts,
        timeout=float(queue.options.timeout),
        losses=job.losses,
        read_count=job.read_count,
        enqueued_at=job.enqueued_at,
        visible_at=job.visible_at,
        started_at=None,
        input=job.payload,
        flow_input=None,
        headers=job.headers,
    )


def final_loss(job: ReadJob, queue: Queue) -> TaskResult:
    """The result that ends a job whose workers died too often."""
    outcome = Failed(
        kind=FailureKind.EXIT, message=crash_message(job.losses), stacktrace=None, duration=0.0, final=True
    )
    return TaskResult(task=claimed_task(job, queue), outcome=outcome)
