"""What is to be written to databases, each FlowWorker's by a task of its own: no round waits for a database.

A round leaves what it wants and goes on; the latest word counts. What came of it is there at a later round, which is
asked for as soon as there is a result. A database that does not answer so holds up nothing but what is written to it.
"""

import asyncio
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import structlog

from flowworker.errors import AccessError
from flowworker_operator.api.conditions import Reason
from flowworker_operator.database import Databases, Key
from flowworker_operator.database.faults import LONGEST
from flowworker_operator.domain.plan import Drain, EndDrain
from flowworker_operator.domain.snapshot import Fault, Loss
from flowworker_operator.domain.words import shown

logger = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class WriteResults:
    """What has come of a FlowWorker's orders since the last look."""

    draining: list[Drain] = field(default_factory=list[Drain])
    """Pods that the database knows to drain, and did not before."""
    losses: list[Loss] = field(default_factory=list[Loss])
    """Workers that were marked lost and had not reported their end."""
    marked: set[str] = field(default_factory=set[str])
    """Uids of pods that are gone, whose workers are marked."""


@dataclass(slots=True)
class _Pending:
    """What is to be written for one FlowWorker, and what came of it."""

    drains: tuple[Sequence[Drain], Sequence[EndDrain]] | None = None
    departures: tuple[AbstractSet[str], AbstractSet[str]] | None = None
    refusal: Fault | None = None
    results: WriteResults = field(default_factory=WriteResults)
    task: "asyncio.Task[None] | None" = None


class DatabaseWrites:
    """Writes in the background. Belongs to the event loop that uses it."""

    def __init__(
        self, *, databases: Databases, may_write: Callable[[], bool], on_result: Callable[[Key], None]
    ) -> None:
        """Write nothing yet.

        Args:
            databases: lead to the databases.
            may_write: whether this process leads; asked before each write.
            on_result: called when there is a result for a FlowWorker.
        """
        self._databases = databases
        self._may_write = may_write
        self._on_result = on_result
        self._all: dict[Key, _Pending] = {}

    def drain(self, key: Key, drains: Sequence[Drain], ends: Sequence[EndDrain]) -> Fault | None:
        """Have workers asked to drain, or no longer, instead of what was wanted before.

        Returns:
            Why the last attempt was refused; it is tried again all the same.
        """
        pending = self._all.get(key)
        if not drains and not ends:
            if pending is not None:
                pending.drains = None
            return None
        pending = self._pending_of(key)
        pending.drains = (drains, ends)
        self._begin(key, pending)
        return pending.refusal

    def mark_gone(self, key: Key, gone: AbstractSet[str], silent: AbstractSet[str]) -> None:
        """Have workers marked lost that cannot run any more (`Databases.mark_gone`), instead of those named before."""
        if gone or silent:
            pending = self._pending_of(key)
            pending.departures = (frozenset(gone), frozenset(silent))
            self._begin(key, pending)

    def take_results(self, key: Key) -> WriteResults:
        """What has come of the orders of a FlowWorker; each item once."""
        pending = self._all.get(key)
        if pending is None:
            return WriteResults()
        results, pending.results = pending.results, WriteResults()
        return results

    def forget(self, key: Key) -> None:
        """Write no more for a FlowWorker, what is under way included."""
        pending = self._all.pop(key, None)
        if pending is not None and pending.task is not None:
            pending.task.cancel()

    async def close(self) -> None:
        """Write no more at all."""
        tasks = [pending.task for pending in self._all.values() if pending.task is not None]
        for key in tuple(self._all):
            self.forget(key)
        if tasks:
            await asyncio.wait(tasks)

    def _pending_of(self, key: Key) -> _Pending:
        return self._all.setdefault(key, _Pending())

    def _begin(self, key: Key, pending: _Pending) -> None:
        if pending.task is None or pending.task.done():
            work = self._work(key, pending)
            pending.task = asyncio.get_running_loop().create_task(work, name=f"database writes of {key}")

    async def _work(self, key: Key, pending: _Pending) -> None:
        while pending.drains is not None or pending.departures is not None:
            drains, departures, pending.drains, pending.departures = pending.drains, pending.departures, None, None
            if not self._may_write():
                return
            if departures is not None:
                await self._mark_gone(key, pending, *departures)
            if drains is not None:
                await self._drain(key, pending, *drains)

    async def _mark_gone(self, key: Key, pending: _Pending, gone: AbstractSet[str], silent: AbstractSet[str]) -> None:
        try:
            losses = await self._databases.mark_gone(key, sorted(gone), sorted(silent))
        except Exception as error:  # noqa: BLE001 - whatever one database does, the next order is tried
            logger.info("cannot mark workers that are gone", **_names(key), error=_words(error))
            return
        pending.results.losses += losses
        pending.results.marked |= gone
        if gone or losses:
            self._on_result(key)

    async def _drain(self, key: Key, pending: _Pending, drains: Sequence[Drain], ends: Sequence[EndDrain]) -> None:
        before = pending.refusal
        try:
            new = await self._databases.drain(key, [(one.uid, one.seconds, one.reason) for one in drains])
            await self._databases.end_drains(key, [one.uid for one in ends])
        except Exception as error:  # noqa: BLE001 - as above
            logger.warning("cannot ask workers to drain or to go on", **_names(key), error=_words(error))
            if isinstance(error, AccessError):
                message = f"workers cannot be asked to drain or to go on: {_words(error)}"
                pending.refusal = Fault(reason=Reason.DATABASE_REFUSED, message=message)
        else:
            pending.refusal = None
            pending.results.draining += [one for one in drains if one.uid in new]
            for end in ends:
                logger.info("released", **_names(key), object=end.pod, reason=end.reason)
        if pending.results.draining or pending.refusal != before:
            self._on_result(key)


def _words(error: Exception) -> str:
    return shown(str(error), limit=LONGEST)


def _names(key: Key) -> dict[str, str]:
    return {"namespace": key.namespace, "flowworker": key.name}
