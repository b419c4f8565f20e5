"""Writes one batch of results of a plain queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from flowworker.database import queue_jobs
from flowworker.database.capabilities import Known
from flowworker.database.connection import Connection
from flowworker.database.job_outcomes import Plan, is_still_ours, plan_for, verdict_of_row, verdict_on
from flowworker.database.queue_jobs import Ending, JobNow, PutBack
from flowworker.database.records import Receipt, RunEnd, Verdict
from flowworker.definition.options import QueueOptions
from flowworker.runtime.sources.writing import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueWriter:
    """Used for one try."""

    connection: Connection
    known: Known
    queue_name: str
    options: QueueOptions
    worker_id: UUID
    skip_locked: bool = False

    async def write(self, entries: Sequence[Entry]) -> list[Receipt | None]:
        """Write entries; receipts in the same order, None for what stays ours unwritten."""
        plans = [plan_for(entry.result.task, entry.outcome, self.options, self.worker_id) for entry in entries]
        written = await self._apply(plans)
        kept_out = [plan.fence for plan in plans if plan.fence.msg_id not in written]
        rows = await queue_jobs.look(self.connection, self.queue_name, kept_out) if kept_out else {}
        return [
            _receipt(entry, plan, verdict_on(plan, entry.outcome))
            if plan.fence.msg_id in written
            else self._receipt_of_row(entry, plan, rows.get(plan.fence.msg_id))
            for entry, plan in zip(entries, plans, strict=True)
        ]

    async def ended_runs(self) -> Sequence[RunEnd]:
        """None: a job belongs to no run."""
        return ()

    def _receipt_of_row(self, entry: Entry, plan: Plan, row: JobNow | None) -> Receipt | None:
        if is_still_ours(plan, row):
            return None
        return _receipt(entry, plan, verdict_of_row(plan, entry.outcome, row, self.worker_id))

    async def _apply(self, plans: Sequence[Plan]) -> set[int]:
        endings = [plan for plan in plans if isinstance(plan, Ending)]
        back = [plan for plan in plans if isinstance(plan, PutBack)]
        written: set[int] = set()
        if endings:
            features = await self.known.of(self.connection)
            written |= await queue_jobs.end(
                self.connection,
                self.queue_name,
                endings,
                has_last_read_at=features.last_read_at,
                skip_locked=self.skip_locked,
            )
        if back:
            written |= await queue_jobs.put_back(self.connection, self.queue_name, back, skip_locked=self.skip_locked)
        return written


def _receipt(entry: Entry, plan: Plan, verdict: Verdict) -> Receipt:
    retry_in = plan.delay if isinstance(plan, PutBack) and verdict is Verdict.RETRYING else None
    return Receipt(result=entry.result, verdict=verdict, retry_in=retry_in)
