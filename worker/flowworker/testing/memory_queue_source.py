"""The source of a queue of jobs in memory."""

from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from flowworker.database.headers import count_of, our_headers
from flowworker.database.job_outcomes import plan_for, verdict_of_row, verdict_on
from flowworker.database.link import Limits
from flowworker.database.queue_jobs import HOLDER_PATIENCE, LEASE, Ending, JobNow, ReadJob
from flowworker.database.records import Peer, Receipt, RunEnd, SourceKind, TaskResult, Verdict
from flowworker.database.stranded import CRASH_BUDGET
from flowworker.definition.queue import Queue
from flowworker.errors import UnknownRunError
from flowworker.runtime.source import Claim, Finish, Recovery
from flowworker.runtime.sources.queue_source import claimed_task, final_loss
from flowworker.runtime.sources.writing import Entry, write_all, write_kinds
from flowworker.testing import memory_json
from flowworker.testing.memory_base import MemorySource
from flowworker.testing.memory_queue import ROUNDING, Message
from flowworker.testing.memory_store import MemoryStore


class MemoryQueueSource(MemorySource):
    """Jobs of one queue for one worker."""

    def __init__(self, *, queue: Queue, worker_id: UUID, store: MemoryStore) -> None:
        """Serve a queue that the store knows."""
        super().__init__(kind=SourceKind.QUEUE, slug=queue.name, worker_id=worker_id, store=store)
        self._definition = queue

    async def claim(self, limit: int, held: Collection[int]) -> Claim:
        """Lease at most `limit` jobs. See `Source.claim`."""
        at = self._store.now()
        if self._store.is_fenced(self._worker_id):
            return Claim(fenced=True, claimed_at=self._store.timestamp(at.stamp))
        messages = self._queue.read(
            limit, now=at.seconds, visibility=LEASE, may_take=lambda message: self._may_take(message, at.seconds)
        )
        jobs = [self._take(message, at.stamp) for message in messages]
        doomed = [job for job in jobs if job.losses > CRASH_BUDGET]
        await self.finish([final_loss(job, self._definition) for job in doomed])
        tasks = [claimed_task(job, self._definition) for job in jobs if job.losses <= CRASH_BUDGET]
        return Claim(
            tasks=tasks,
            read=len(jobs),
            full=len(jobs) >= limit,
            unstartable=len(doomed),
            claimed_at=self._store.timestamp(at.stamp),
        )

    async def finish(
        self, results: Sequence[TaskResult], *, patience: Limits | None = None, waits_for_lock: bool = False
    ) -> Finish:
        """Write results behind the fence. See `Source.finish`."""
        return await write_all(results, lambda batch: write_kinds(batch.entries, self), patient=patience is not None)

    async def flow_input(self, run_id: UUID) -> bytes:
        """Always refused.

        Raises:
            UnknownRunError: a job belongs to no run.
        """
        raise UnknownRunError(f"queue {self.slug!r} has no runs, so none with id {run_id}")

    async def recover(self, dead: Collection[Peer], held: Callable[[], Collection[int]] | None = None) -> Recovery:
        """Mark dead peers lost; their jobs come back when the leases run out."""
        return Recovery(lost=self._mark_lost(dead))

    def _may_take(self, message: Message, now: float) -> bool:
        """A job whose holder is not known to be gone waits past the end of its lease."""
        free = message.holder is None or message.holder == self._worker_id or self._store.is_lost(message.holder)
        return free or message.visible_at <= now - HOLDER_PATIENCE + ROUNDING

    def _take(self, message: Message, stamp: float) -> ReadJob:
        """Name the new holder, and count a loss of the old one."""
        ours = our_headers(message.headers)
        losses = count_of(ours, "losses") + self._store.is_loss(message.holder, message.claimed_at)
        if losses:
            message.note({"losses": losses})
        message.holder, message.claimed_at = self._worker_id, stamp
        return ReadJob(
            msg_id=message.msg_id,
            read_count=message.read_count,
            enqueued_at=self._store.timestamp(message.enqueued_at),
            visible_at=self._store.timestamp(message.visible_at),
            payload=message.payload,
            headers=message.headers,
            failures=count_of(ours, "failures"),
            losses=losses,
        )

    async def write(self, entries: Sequence[Entry]) -> list[Receipt]:
        """Write entries of one kind of outcome; see `flowworker.runtime.sources.writing.Writer`."""
        return [self._write_one(entry) for entry in entries]

    async def ended_runs(self) -> Sequence[RunEnd]:
        """None: a job belongs to no run."""
        return ()

    def _write_one(self, entry: Entry) -> Receipt:
        plan = plan_for(entry.result.task, entry.outcome, self._definition.options, self._worker_id)
        message = self._queue.fenced(plan.fence.msg_id, plan.fence.read_count)
        if message is None:
            verdict = verdict_of_row(plan, entry.outcome, self._archived(plan.fence.msg_id), self._worker_id)
            return Receipt(result=entry.result, verdict=verdict)
        message.note(memory_json.loads(plan.ours))
        verdict = verdict_on(plan, entry.outcome)
        if isinstance(plan, Ending):
            self._queue.move_to_archive([message.msg_id])
            return Receipt(result=entry.result, verdict=verdict)
        message.visible_at, message.holder = self._store.now().seconds + plan.delay, None
        return Receipt(
            result=entry.result, verdict=verdict, retry_in=plan.delay if verdict is Verdict.RETRYING else None
        )

    def _archived(self, msg_id: int) -> JobNow | None:
        message = self._queue.archive.get(msg_id)
        if message is None:
            return None
        return JobNow(read_count=message.read_count, archived=True, headers=message.headers)
