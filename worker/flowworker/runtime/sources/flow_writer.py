"""Writes one batch of results of a flow and remembers which runs it may have ended."""

import logging
from collections.abc import Awaitable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg

from flowworker.database import flow_results
from flowworker.database.capabilities import Known
from flowworker.database.connection import Connection, describe
from flowworker.database.faults import MISSING_OBJECT, is_unavailable
from flowworker.database.flow_results import Answer, Fence, failure_of, fence_of
from flowworker.database.records import Completed, Failed, Receipt, Released, RunEnd, Verdict
from flowworker.database.verdicts import is_still_ours, receipt_of_answer, receipt_of_row
from flowworker.runtime.sources.writing import Entry

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class FlowWriter:
    """Used for one try."""

    connection: Connection
    known: Known
    queue_name: str
    worker_id: UUID
    decisive: AbstractSet[str] = frozenset()
    """Steps after which a run may fail by a condition."""
    skip_locked: bool = False
    _touched: set[UUID] = field(default_factory=set[UUID])
    _written_at: set[datetime] = field(default_factory=set[datetime])

    async def write(self, entries: Sequence[Entry]) -> list[Receipt | None]:
        """Write entries of one kind of outcome; receipts in the same order, None for what stays ours unwritten."""
        fences = [fence_of(entry.result.task, self.worker_id) for entry in entries]
        answers = await self._call(entries, fences)
        receipts = {
            n: receipt_of_answer(entries[n].result, entries[n].outcome, answer)
            for n, answer in answers.items()
            if answer.status is not None
        }
        unanswered = [n for n in range(len(entries)) if n not in receipts]
        receipts.update(await self._look(entries, fences, unanswered))
        self._written_at.update(answer.written_at for answer in answers.values())
        ended = (Verdict.COMPLETED, Verdict.FAILED)
        self._touched.update(fences[n].run_id for n, receipt in receipts.items() if receipt.verdict in ended)
        return [receipts.get(n) for n in range(len(entries))]

    async def ended_runs(self) -> list[RunEnd]:
        """Runs that one of the writes brought to their end."""
        if not self._touched:
            return []
        try:
            return await flow_results.ended_runs(self.connection, self._touched, self._written_at)
        except asyncpg.PostgresError as error:
            if is_unavailable(error):
                raise
            logger.warning("which runs of %s have ended is not known: %s", self.queue_name, describe(error))
            return []  # what was written stays written, whether its run's end can be reported or not

    async def _call(self, entries: Sequence[Entry], fences: Sequence[Fence]) -> dict[int, Answer]:
        outcomes = [entry.outcome for entry in entries]
        outputs = [outcome.output for outcome in outcomes if isinstance(outcome, Completed)]
        if outputs:
            return await self._complete(fences, outputs)
        failures = [failure_of(outcome) for outcome in outcomes if isinstance(outcome, Failed)]
        if failures:
            return await flow_results.fail(
                self.connection, self.queue_name, fences, failures, skip_locked=self.skip_locked
            )
        return await flow_results.release(
            self.connection,
            self.queue_name,
            fences,
            [0] * len(fences),
            waits=[outcome.wait for outcome in outcomes if isinstance(outcome, Released)],
            skip_locked=self.skip_locked,
        )

    async def _complete(self, fences: Sequence[Fence], outputs: Sequence[bytes]) -> dict[int, Answer]:
        def complete(own_maps: bool) -> Awaitable[dict[int, Answer]]:
            return flow_results.complete(
                self.connection, self.worker_id, fences, outputs, own_maps=own_maps, queue_name=self.queue_name,
                decisive=decisive, skip_locked=self.skip_locked,
            )  # fmt: skip

        features = await self.known.of(self.connection)
        own_maps, ends_others = features.own_map_tasks, features.cancelled_tasks
        decisive = [n for n, fence in enumerate(fences) if ends_others and fence.step_slug in self.decisive]
        try:
            return await complete(own_maps)
        except MISSING_OBJECT:
            if not own_maps:
                raise
            return await complete(False)  # our function was dropped beneath us

    async def _look(
        self, entries: Sequence[Entry], fences: Sequence[Fence], positions: Sequence[int]
    ) -> dict[int, Receipt]:
        if not positions:
            return {}
        rows = await flow_results.look(self.connection, [fences[n] for n in positions])
        self._written_at.update(row.written_at for row in rows.values() if row.written_at is not None)
        return {
            n: receipt_of_row(entries[n].result, entries[n].outcome, rows.get(order), self.worker_id)
            for order, n in enumerate(positions)
            if not is_still_ours(rows.get(order), fences[n])
        }
