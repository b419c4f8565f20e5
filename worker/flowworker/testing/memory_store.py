"""A database in memory: flows with their runs, queues with their jobs, and the workers that serve them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from flowworker.database.records import Peer
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.errors import UnknownFlowError, UnknownQueueError, UnknownRunError
from flowworker.testing import memory_json
from flowworker.testing.memory_queue import Message, MessageQueue
from flowworker.testing.memory_runs import Instant, Run, start_run

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Second 0 of every clock."""

TICK = 1e-6
"""Seconds by which stamps go on with every call, however still the clock stands: started_at is part of the fence."""


@dataclass(slots=True, kw_only=True)
class WorkerRow:
    """What the store knows about a worker."""

    state: str = "running"
    beat: float
    begun: float = float("-inf")
    """Everything claimed up to this stamp has begun."""


@dataclass(slots=True)
class MemoryStore:
    """Plays the database for any number of memory sources on one event loop."""

    clock: Callable[[], float] = time.monotonic
    """Seconds; only differences matter."""
    new_id: Callable[[], UUID] = uuid4
    flows: dict[str, Flow] = field(default_factory=dict[str, Flow])
    queues: dict[str, MessageQueue] = field(default_factory=dict[str, MessageQueue])
    """By name: those of flows and those of jobs."""
    runs: dict[UUID, Run] = field(default_factory=dict[UUID, Run])
    workers: dict[UUID, WorkerRow] = field(default_factory=dict[UUID, WorkerRow])
    _latest: float = float("-inf")

    def now(self) -> Instant:
        """This moment; no two share a stamp."""
        seconds = self.clock()
        self._latest = max(seconds, self._latest + TICK)
        return Instant(seconds=seconds, stamp=self._latest)

    def add(self, workload: Flow | Queue) -> None:
        """Create a flow, or a queue of jobs; does nothing when it exists.

        Raises:
            UnknownQueueError: it would be the queue of another.
        """
        match workload:
            case Flow():
                if workload.slug in self.queues and workload.slug not in self.flows:
                    raise UnknownQueueError(f"flow {workload.slug!r} would share its messages with a queue of jobs")
                self.flows.setdefault(workload.slug, workload)
                self.queues.setdefault(workload.slug, MessageQueue())
            case Queue():
                if workload.name in self.flows:
                    raise UnknownQueueError(f"queue {workload.name!r} is the queue of a flow")
                self.queues.setdefault(workload.name, MessageQueue())

    def start(self, flow_slug: str, value: bytes, run_id: UUID | None = None) -> UUID:
        """Start a run with an input in JSON, and return its id; an id that exists is left as it is.

        Raises:
            UnknownFlowError: no such flow was added.
            DataError: a root map needs a list.
        """
        if flow_slug not in self.flows:
            raise UnknownFlowError(f"no flow {flow_slug!r} was added to this store")
        run_id = run_id or self.new_id()
        if run_id not in self.runs:
            flow, queue = self.flows[flow_slug], self.queues[flow_slug]
            self.runs[run_id] = start_run(flow, queue, run_id, memory_json.loads(value), at=self.now())
        return run_id

    def send(self, queue_name: str, payload: bytes, *, delay: float = 0.0, headers: bytes | None = None) -> int:
        """Send a job with a payload in JSON, visible after `delay` seconds, and return its id.

        Raises:
            UnknownQueueError: no such queue was added.
        """
        return self.queue(queue_name).send(
            memory_json.dumps(memory_json.loads(payload)), now=self.now().seconds, delay=delay, headers=headers
        )

    def queue(self, name: str) -> MessageQueue:
        """Messages and archive of a queue.

        Raises:
            UnknownQueueError: no such queue was added.
        """
        if name not in self.queues:
            raise UnknownQueueError(f"no queue {name!r} was added to this store")
        return self.queues[name]

    def message(self, queue_name: str, msg_id: int) -> Message:
        """A message, in the queue or in its archive."""
        queue = self.queue(queue_name)
        return queue.messages.get(msg_id) or queue.archive[msg_id]

    def run(self, run_id: UUID) -> Run:
        """A run as it stands.

        Raises:
            UnknownRunError: there is no such run.
        """
        if run_id not in self.runs:
            raise UnknownRunError(f"this store has no run {run_id}")
        return self.runs[run_id]

    def beat(self, worker_id: UUID) -> None:
        """Register a worker or note its heartbeat; a worker that is lost stays lost."""
        row = self.workers.setdefault(worker_id, WorkerRow(beat=self.now().stamp))
        if row.state == "running":
            row.beat = self.now().stamp

    def peer(self, worker_id: UUID) -> Peer:
        """A worker as an observer sees it."""
        row = self.workers[worker_id]
        return Peer(
            worker_id=worker_id, boot_id=worker_id, pod_uid=None, state=row.state, beat=self.timestamp(row.beat)
        )

    def mark_lost(self, peer: Peer) -> bool:
        """Mark a worker lost whose beat is still the one that was seen; returns whether it was."""
        row = self.workers.get(peer.worker_id)
        if row is None or row.state != "running" or self.timestamp(row.beat) != peer.beat:
            return False
        row.state = "lost"
        return True

    def begin(self, worker_id: UUID, stamp: float) -> None:
        """Note that the handlers of everything a worker claimed until then have begun."""
        row = self.workers.get(worker_id)
        if row is not None:
            row.begun = max(row.begun, stamp + TICK / 2)

    def is_loss(self, worker_id: UUID | None, claimed_at: float) -> bool:
        """Whether a worker was marked lost after it had begun what it claimed then."""
        row = None if worker_id is None else self.workers.get(worker_id)
        return row is not None and row.state == "lost" and claimed_at <= row.begun

    def is_fenced(self, worker_id: UUID) -> bool:
        """Whether a worker may claim nothing, because it was marked lost."""
        row = self.workers.get(worker_id)
        return row is not None and row.state != "running"

    def is_lost(self, worker_id: UUID | None) -> bool:
        """Whether what this worker holds may be taken; no worker (None) counts as lost."""
        row = None if worker_id is None else self.workers.get(worker_id)
        return worker_id is None or (row is not None and row.state != "running")

    def stamp(self, moment: datetime) -> float:
        """The clock's seconds of a point in time."""
        return (moment - EPOCH).total_seconds()

    def timestamp(self, seconds: float) -> datetime:
        """The clock's seconds as a point in time."""
        return EPOCH + timedelta(seconds=seconds)
