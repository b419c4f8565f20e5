"""What the sources of flows and of queues in memory share: a worker's view of one queue of the store."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from flowworker.database.records import ClaimedTask, Peer, SourceKind
from flowworker.testing.memory_queue import MessageQueue
from flowworker.testing.memory_store import MemoryStore


class MemorySource:
    """The part of `Source` that does not depend on what the messages mean."""

    def __init__(self, *, kind: SourceKind, slug: str, worker_id: UUID, store: MemoryStore) -> None:
        """Serve a flow or a queue that the store knows."""
        self._kind = kind
        self._slug = slug
        self._worker_id = worker_id
        self._store = store

    @property
    def kind(self) -> SourceKind:
        return self._kind

    @property
    def slug(self) -> str:
        return self._slug

    @property
    def queue_name(self) -> str:
        return self._slug

    @property
    def doubts(self) -> int:
        """Memory answers always."""
        return 0

    async def prepare(self) -> None:
        """Check that the store knows the queue.

        Raises:
            UnknownQueueError: it does not.
        """
        self._store.queue(self._slug)

    async def begun(self, claimed_at: datetime) -> None:
        """Record that handlers have begun. See `Source.begun`."""
        self._store.begin(self._worker_id, self._store.stamp(claimed_at))

    async def next_due(self) -> float | None:
        """Seconds until the earliest invisible message becomes visible."""
        return self._queue.next_due(now=self._store.now().seconds)

    async def forgive(self, tasks: Sequence[ClaimedTask]) -> None:
        """Forget losses. See `Source.forgive`."""
        for task in tasks:
            message = self._queue.fenced(task.msg_id, task.read_count)
            if message is not None:
                message.note({"losses": 0})

    @property
    def _queue(self) -> MessageQueue:
        return self._store.queue(self._slug)

    def _mark_lost(self, dead: Collection[Peer]) -> list[UUID]:
        """Mark dead peers lost; returns those that were not already."""
        return [peer.worker_id for peer in dead if self._store.mark_lost(peer)]
