"""The source of a queue of jobs in memory."""

from collections.abc import Collection, Sequence
from uuid import UUID

import orjson

from flowworker.database.headers import count_of, our_headers
from flowworker.database.job_outcomes import plan_for, verdict_of_row, verdict_on
from flowworker.database.queue_jobs import LEASE, Ending, JobNow, ReadJob
from flowworker.database.records import ClaimedTask, Peer, Receipt, SourceKind, TaskResult, Verdict
from flowworker.database.stranded import CRASH_BUDGET
from flowworker.definition.queue import Queue
from flowworker.errors import UnknownRunError
from flowworker.runtime.source import Claim, Finish, Recovery
from flowworker.runtime.sources.queue_source import burial_of, claimed_task
from flowworker.runtime.sources.writing import Entry, write_all
from flowworker.testing.memory_queue import Message, MessageQueue
from flowworker.testing.memory_store import MemoryStore


class MemoryQueueSource:
    """Jobs of one queue for one worker."""

    def __init__(self, *, queue: Queue, worker_id: UUID, store: MemoryStore) -> None:
        """Serve a queue that the store knows."""
        self._definition = queue
        self._worker_id = worker_id
        self._store = store

    @property
    def kind(self) -> SourceKind:
        return SourceKind.QUEUE

    @property
    def slug(self) -> str:
        return self._definition.name

    @property
    def queue_name(self) -> str:
        return self._definition.name

    @property
    def _queue(self) -> MessageQueue:
        return self._store.queue(self.slug)

    async def prepare(self) -> None:
        """Check that the store knows the queue.

        Raises:
            UnknownQueueError: it does not.
        """
        self._store.queue(self.slug)

    async def claim(self, limit: int, held: Collection[int]) -> Claim:
        """Lease at most `limit` jobs. See `Source.claim`."""
        messages = self._queue.read(limit, now=self._store.now().seconds, visibility=LEASE)
        jobs = [self._read_job(message) for message in messages]
        doomed = [job for job in jobs if job.losses > CRASH_BUDGET]
        await self.finish([burial_of(job, self._definition) for job in doomed])
        tasks = [claimed_task(job, self._definition) for job in jobs if job.losses <= CRASH_BUDGET]
        return Claim(tasks=tasks, read=len(jobs), unstartable=len(doomed))

    async def finish(self, results: Sequence[TaskResult]) -> Finish:
        """Write results behind the fence. See `Source.finish`."""
        return Finish(receipts=await write_all(results, self._write))

    async def extend(self, tasks: Sequence[ClaimedTask]) -> Collection[int]:
        """Prolong leases. See `Source.extend`."""
        held = [(task.msg_id, task.read_count) for task in tasks]
        return self._queue.extend(held, until=self._store.now().seconds + LEASE)

    async def next_due(self) -> float | None:
        """Seconds until the earliest invisible job becomes visible."""
        return self._queue.next_due(now=self._store.now().seconds)

    async def flow_input(self, run_id: UUID) -> bytes:
        """Always refused.

        Raises:
            UnknownRunError: a job belongs to no run.
        """
        raise UnknownRunError(f"queue {self.slug!r} has no runs, so none with id {run_id}")

    async def recover(self, dead: Collection[Peer]) -> Recovery:
        """Mark dead peers lost; their jobs come back when the leases run out."""
        return Recovery(lost=[peer.worker_id for peer in dead if self._store.mark_lost(peer)])

    def _read_job(self, message: Message) -> ReadJob:
        ours = our_headers(message.headers)
        return ReadJob(
            msg_id=message.msg_id,
            read_count=message.read_count,
            enqueued_at=self._store.timestamp(message.enqueued_at),
            visible_at=self._store.timestamp(message.visible_at),
            payload=message.payload,
            headers=message.headers,
            failures=count_of(ours, "failures"),
            releases=count_of(ours, "releases"),
        )

    async def _write(self, entries: Sequence[Entry]) -> list[Receipt]:
        return [self._write_one(entry) for entry in entries]

    def _write_one(self, entry: Entry) -> Receipt:
        plan = plan_for(entry.result.task, entry.outcome, self._definition.options, self._worker_id)
        message = self._queue.fenced(plan.fence.msg_id, plan.fence.read_count)
        if message is None:
            verdict = verdict_of_row(plan, entry.outcome, self._archived(plan.fence.msg_id), self._worker_id)
            return Receipt(result=entry.result, verdict=verdict)
        message.note(orjson.loads(plan.ours))
        verdict = verdict_on(plan, entry.outcome)
        if isinstance(plan, Ending):
            self._queue.move_to_archive([message.msg_id])
            return Receipt(result=entry.result, verdict=verdict)
        message.visible_at = self._store.now().seconds + plan.delay
        return Receipt(
            result=entry.result, verdict=verdict, retry_in=plan.delay if verdict is Verdict.RETRYING else None
        )

    def _archived(self, msg_id: int) -> JobNow | None:
        message = self._queue.archive.get(msg_id)
        if message is None:
            return None
        return JobNow(read_count=message.read_count, archived=True, headers=message.headers)
