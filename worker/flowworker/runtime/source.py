"""The port that hides pgflow and pgmq from the runtime.

A source serves one flow or one queue. `prepare`, `claim`, `next_due`, `recover` and `flow_input` use the claim
connection, `finish` its own; both belong to the worker's event loop. `extend` is called from the pulse's own thread
and event loop and uses the pulse's connection. Implementations: `flow_source`, `queue_source` and
`flowworker.testing.memory_source`; one contract suite (tests/contract) runs on all three.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from flowworker.database.records import ClaimedTask, Peer, Receipt, RunEnd, SourceKind, TaskResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one claim brought."""

    tasks: Sequence[ClaimedTask] = ()
    """Tasks now owned, in message order; never more than asked for."""
    read: int = 0
    """Messages read. Equal to the limit means: more may be waiting, claim again."""
    unstartable: int = 0
    """Messages read that cannot be started here: foreign, left over, of an unknown step, or running elsewhere."""
    returned: int = 0
    """Own tasks found started but not held (a claim's reply was lost); they were released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What one batch of results became."""

    receipts: Sequence[Receipt]
    """One per result, in the order given."""
    ended_runs: Sequence[RunEnd] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What one recovery pass gave back."""

    released: int = 0
    failed: int = 0
    """Tasks that were past their crash budget."""
    archived: int = 0
    """Messages whose task can never start again."""
    lost: Sequence[UUID] = ()
    """Workers this pass marked lost."""
    notes: Sequence[str] = ()
    """What happened, in words for the log."""


class Source(Protocol):
    """Claims, finishes, extends and recovers the tasks of one flow or queue.

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

    async def finish(self, results: Sequence[TaskResult]) -> Finish:
        """Write outcomes behind the fence, in one transaction where the database lets us."""
        ...

    async def extend(self, tasks: Sequence[ClaimedTask]) -> Collection[int]:
        """Prolong the lease of tasks still held; return the msg_ids whose fence was lost."""
        ...

    async def next_due(self) -> float | None:
        """Seconds until the earliest message that is invisible now becomes visible; None when there is none."""
        ...

    async def flow_input(self, run_id: UUID) -> bytes:
        """The run's input as JSON."""
        ...

    async def recover(self, dead: Collection[Peer]) -> Recovery:
        """Give back what dead workers, foreign workers past their deadline and nobody at all hold.

        Args:
            dead: peers judged dead by the caller. Each is marked lost only if its beat is still the one given.
        """
        ...
