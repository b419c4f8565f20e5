"""The port that hides pgflow and pgmq from the runtime.

A source serves one flow or one queue. `prepare`, `claim`, `next_due` and `flow_input` use the claim connection,
`recover` the one aside where it is free, `finish` its own two lanes; all belong to the worker's event loop.
Implementations: `flow_source`, `queue_source`, and those of `flowworker.testing`; one contract suite (tests/contract)
runs on all of them.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeAlias, assert_never
from uuid import UUID

from flowworker.database.link import Limits
from flowworker.database.records import (
    ClaimedTask,
    Completed,
    Failed,
    Peer,
    Receipt,
    Released,
    RunEnd,
    SourceKind,
    TaskResult,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one claim brought."""

    tasks: Sequence[ClaimedTask] = ()
    """Tasks now owned, in message order; never more than asked for."""
    read: int = 0
    """Messages read."""
    full: bool = False
    """As many were read as the claim asked for, which may be fewer than the limit: more may be waiting, claim again."""
    unstartable: int = 0
    """Messages read that cannot be started here: foreign, left over, of an unknown step, or running elsewhere."""
    returned: int = 0
    """Own tasks found started but not held (a claim's reply was lost); they were released."""
    claimed_at: datetime | None = None
    """The database's time of the claim; what it brought was claimed no later."""
    fenced: bool = False
    """The worker was marked lost: nothing was read, and nothing ever will be under this id."""
    doubtful: bool = False
    """An earlier claim has not been answered and may still take effect: claim again soon."""


class Trouble(StrEnum):
    """Why a result is not written yet."""

    LOCKED = "locked"
    """Another transaction holds what the write needs."""
    SLOW = "slow"
    """The write took longer than it was allowed."""
    FORBIDDEN = "forbidden"
    """The role lacks a right; it is no fault of the value, and people need time to grant it."""
    UNKNOWN = "unknown"
    """An error that says nothing about the value."""
    UNAVAILABLE = "unavailable"
    """The connection was lost; the write may have been committed, and repeating it is safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsettled:
    """A result that is still this worker's, and not written."""

    result: TaskResult
    trouble: Trouble
    error: str
    """The database's words."""
    alone: bool = False
    """It was tried alone, so the trouble is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What one batch of results became."""

    receipts: Sequence[Receipt]
    """One per settled result, in the order given."""
    ended_runs: Sequence[RunEnd] = ()
    unsettled: Sequence[Unsettled] = ()
    """The others, in the order given."""


LockGroup: TypeAlias = UUID | int


def lock_group(task: ClaimedTask) -> LockGroup:
    """What a write of the task's result locks: its run, or its own message."""
    return task.msg_id if task.run_id is None else task.run_id


def weight(result: TaskResult) -> int:
    """Bytes, roughly, that a write of the result sends."""
    match result.outcome:
        case Completed(output=output):
            return len(output)
        case Failed(message=message, stacktrace=stacktrace):
            return len(message) + len(stacktrace or "")
        case Released():
            return 0
        case _:
            assert_never(result.outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What one recovery pass gave back."""

    released: int = 0
    pending: int = 0
    """Tasks that could not be given back yet, because their run was locked: look again soon."""
    settled: int = 0
    """Tasks of failed runs that were still `started`."""
    failed: int = 0
    """Tasks that were past their crash budget."""
    archived: int = 0
    """Messages whose task can never start again."""
    lost: Sequence[UUID] = ()
    """Workers this pass marked lost."""
    notes: Sequence[str] = ()
    """What happened, in words for the log."""


class Source(Protocol):
    """Claims, finishes and recovers the tasks of one flow or queue.

    Every method raises `DatabaseUnavailableError` when the database cannot be used now; the caller retries with
    backoff. A `finish` that raises may or may not have been written: repeating it is safe.
    """

    @property
    def kind(self) -> SourceKind: ...

    @property
    def slug(self) -> str: ...

    @property
    def queue_name(self) -> str:
        """Name of the pgmq queue behind the source."""
        ...

    @property
    def doubts(self) -> int:
        """Claims that were not answered and may still take effect."""
        ...

    async def prepare(self) -> None:
        """Check (or compile) what the source needs in the database before the first claim.

        Raises:
            UnknownFlowError, UnknownQueueError, ShapeMismatchError, MissingRightsError: with what to do about it.
        """
        ...

    async def claim(self, limit: int, held: Collection[int]) -> Claim:
        """Take at most `limit` tasks that can start now.

        Args:
            limit: free slots, at least 1.
            held: msg_ids this worker still holds; started tasks of ours outside of it are released.
        """
        ...

    async def begun(self, claimed_at: datetime) -> None:
        """Record that the handlers of everything claimed until then have begun: only such a task counts as lost."""
        ...

    async def finish(
        self, results: Sequence[TaskResult], *, patience: Limits | None = None, waits_for_lock: bool = False
    ) -> Finish:
        """Write outcomes behind the fence, in one transaction where the database lets us.

        Args:
            results: what to write.
            patience: None writes on the fast lane, whose short limits nothing may exceed. Otherwise the results are
                known to be in trouble: they are written on the lane aside, within these limits.
            waits_for_lock: with patience, that only the lock of another transaction has kept them from being written:
                where the lane aside is taken, the fast one looks whether they can be, and waits for nothing.
        """
        ...

    async def next_due(self) -> float | None:
        """Seconds until the earliest message that is invisible now becomes visible; None when there is none."""
        ...

    async def flow_input(self, run_id: UUID) -> bytes:
        """The run's input as JSON."""
        ...

    async def recover(self, dead: Collection[Peer], held: Callable[[], Collection[int]] | None = None) -> Recovery:
        """Give back what dead workers, foreign workers past their deadline and no worker at all hold.

        Args:
            dead: peers judged dead by the caller. Each is marked lost only if its beat is still the one given.
            held: gives the msg_ids this worker holds when it is called. With it the pass is thorough: it also gives
                back what this worker holds in the database but not here, because the reply of its claim was lost,
                and tidies up what ended runs have left.
        """
        ...

    async def forgive(self, tasks: Sequence[ClaimedTask]) -> None:
        """Forget the losses of tasks that have made progress since: they do not kill their workers."""
        ...
