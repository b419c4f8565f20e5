"""What a worker holds, prolonged as its pulse does it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from flowworker.database.records import ClaimedTask
from flowworker.runtime.heartbeat.database import DatabaseHeartbeat
from flowworker.runtime.heartbeat.extender import BEAT_INTERVAL, Extender, Leases
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.source import Source
from flowworker.runtime.sources.flow_source import FlowSource
from flowworker.runtime.sources.queue_source import QueueSource


@dataclass(kw_only=True)
class Keeper:
    """A worker that has held some tasks for a while."""

    source: Source
    worker_id: UUID
    tasks: Sequence[ClaimedTask]
    lost: list[int] = field(default_factory=list[int])

    def owned(self) -> Sequence[HeldTask]:
        return [HeldTask(task=task, claimed_at=-BEAT_INTERVAL) for task in self.tasks]

    def on_lost_leases(self, held_tasks: Sequence[HeldTask]) -> None:
        self.lost += [held_task.task.msg_id for held_task in held_tasks]


async def prolong_by(leases: Leases, source: Source, worker_id: UUID, tasks: Sequence[ClaimedTask]) -> set[int]:
    """Prolong everything given, and return the msg_ids of what is no longer the worker's."""
    keeper = Keeper(source=source, worker_id=worker_id, tasks=tasks)
    extender = Extender(leases=leases, server_now=lambda: None, clock=lambda: 0.0)
    await extender.round([keeper])
    assert not extender._troubles  # pyright: ignore[reportPrivateUsage]
    return set(keeper.lost)


async def prolong(source: FlowSource | QueueSource, tasks: Sequence[ClaimedTask]) -> set[int]:
    """The same in the database that the source serves."""
    links = source._links  # pyright: ignore[reportPrivateUsage]
    port = DatabaseHeartbeat(beat=links.beat, other=links.pulse, lends=False)
    return await prolong_by(port, source, source._worker_id, tasks)  # pyright: ignore[reportPrivateUsage]
