"""Recovery of a flow: mark the dead, give back or fail what they left, and tidy up what no run needs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from flowworker.database import flow_results, flow_tasks, stranded
from flowworker.database.capabilities import Capabilities
from flowworker.database.connection import Connection
from flowworker.database.flow_results import Failure
from flowworker.database.lost_peers import LostPeers
from flowworker.database.records import Peer
from flowworker.database.stranded import BATCH, GiveBack, GiveUp, Stranded, fate_of
from flowworker.runtime.source import Recovery

MOST_ROUNDS = 50
"""Batches of one pass; what is left then waits for the next one."""


@dataclass(slots=True, kw_only=True)
class FlowRecovery:
    """Used once.

    Every write is fenced, so that observers who act at once, or a worker that wakes, do no harm. What is locked is
    passed over and stays for the next pass.
    """

    connection: Connection
    features: Capabilities
    flow_slug: str
    own_id: UUID
    lost_peers: LostPeers
    _released: int = field(init=False, default=0)
    _failed: int = field(init=False, default=0)
    _locked: set[UUID] = field(init=False, default_factory=set[UUID])
    """Runs whose tasks could not be given back now."""

    async def give_back(self, dead: Collection[Peer]) -> Recovery:
        """Mark peers lost whose beats are still the ones given, and give back what the dead have left."""
        lost = await self.lost_peers.mark(self.connection, self.flow_slug, dead)
        pending = await self._give_back_all()
        return Recovery(
            released=self._released,
            failed=self._failed,
            pending=pending,
            lost=lost,
            notes=[f"worker {worker_id} is lost: its heartbeat stopped" for worker_id in lost],
        )

    async def tidy(self, held: Collection[int]) -> Recovery:
        """End what failed runs have left `started`, but for the msg_ids held here, and clear the queue's head."""
        ended = await stranded.find_ended(self.connection, self.flow_slug, own_id=self.own_id)
        free = [task for task in ended if not task.is_own or task.msg_id not in held]
        if free:
            await stranded.settle(self.connection, free)
        ghosts = await stranded.find_ghosts(self.connection, self.features, self.flow_slug)
        archived = await flow_tasks.archive(self.connection, self.flow_slug, ghosts) if ghosts else 0
        return Recovery(settled=len(free), archived=archived)

    async def _give_back_all(self) -> int:
        """Batch after batch, passing over the runs that are locked; returns how many tasks of those were seen."""
        pending = 0
        for _ in range(MOST_ROUNDS):
            tasks = await stranded.find_stranded(
                self.connection, self.features, self.flow_slug, own_id=self.own_id, without=self._locked
            )
            left = await self._give_back(tasks)
            pending += len(left)
            self._locked.update(task.fence.run_id for task in left)
            if len(tasks) < BATCH:
                return pending
        return pending

    async def _give_back(self, tasks: Sequence[Stranded]) -> Sequence[Stranded]:
        """Release or fail; returns those that were passed over."""
        fates = {task: fate_of(task.losses, is_loss=task.is_loss) for task in tasks}
        back = {task: fate.losses for task, fate in fates.items() if isinstance(fate, GiveBack)}
        past = {task: Failure(error=fate.error, final=True) for task, fate in fates.items() if isinstance(fate, GiveUp)}
        done = await self._release(back) | await self._fail(past)
        return [task for task in tasks if task not in done]

    async def _release(self, tasks: Mapping[Stranded, int]) -> set[Stranded]:
        if not tasks:
            return set()
        fences = [task.fence for task in tasks]
        apart = stranded.waits({task.msg_id: losses for task, losses in tasks.items() if task.msg_id is not None})
        answers = await flow_results.release(
            self.connection,
            self.flow_slug,
            fences,
            list(tasks.values()),
            waits=[0.0 if task.msg_id is None else apart[task.msg_id] for task in tasks],
            skip_locked=True,
        )
        self._released += len(answers)
        return {task for position, task in enumerate(tasks) if position in answers}

    async def _fail(self, tasks: Mapping[Stranded, Failure]) -> set[Stranded]:
        if not tasks:
            return set()
        fences = [task.fence for task in tasks]
        answers = await flow_results.fail(
            self.connection, self.flow_slug, fences, list(tasks.values()), skip_locked=True
        )
        self._failed += len(answers)
        return {task for position, task in enumerate(tasks) if position in answers}
