"""What the contract suite needs of a database, once for PostgreSQL and once for memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

import orjson
from tests.integration.sources.prolonging import prolong, prolong_by
from tests.integration.sources.world import World

from flowworker.database.flow_results import Fence
from flowworker.database.headers import KEY
from flowworker.database.queue_jobs import LEASE, JobFence
from flowworker.database.records import ClaimedTask, Peer, RunStatus, SourceKind
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.runtime.source import Source
from flowworker.runtime.sources.flow_source import FlowSource
from flowworker.runtime.sources.queue_source import QueueSource
from flowworker.testing.memory_base import MemorySource
from flowworker.testing.memory_runs import State
from flowworker.testing.memory_source import MemoryStore, memory_source


class Backend(Protocol):
    """A database in which time can be moved on."""

    async def add(self, workload: Flow | Queue) -> None: ...

    async def source(self, workload: Flow | Queue, worker_id: UUID | None = None) -> Source: ...

    async def start(self, slug: str, value: object = None, run_id: UUID | None = None) -> UUID: ...

    async def send(self, queue: str, payload: object) -> int: ...

    async def run(self, run_id: UUID) -> tuple[str, Any]: ...

    async def tasks(self, run_id: UUID) -> list[tuple[str, int, str, int, str | None]]: ...

    async def job(self, queue: str, msg_id: int) -> Any: ...

    async def pass_time(self, slug: str, seconds: float) -> None: ...

    async def peer(self, worker_id: UUID) -> Peer: ...

    async def beat(self, worker_id: UUID, workload: Flow | Queue) -> None: ...

    async def prolong(self, source: Source, tasks: Sequence[ClaimedTask]) -> set[int]:
        """Keep what a worker holds, as its pulse does; returns the msg_ids of what it has lost."""
        ...


class MemoryLeases:
    """Leases and fences in a store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def extend_jobs(self, jobs: Sequence[tuple[str, JobFence]]) -> Sequence[int]:
        lost: list[int] = []
        for position, (queue_name, fence) in enumerate(jobs):
            message = self._store.queue(queue_name).fenced(fence.msg_id, fence.read_count)
            if message is None:
                lost.append(position)
            else:
                message.visible_at = self._store.now().seconds + LEASE
        return lost

    async def lost_fences(self, fences: Sequence[Fence]) -> Sequence[int]:
        return [position for position, fence in enumerate(fences) if not self._holds(fence)]

    async def prolong(self, queue_name: str, msg_ids: Sequence[int], *, seconds: float) -> Mapping[int, datetime]:
        until = self._store.now().seconds + seconds
        for msg_id in msg_ids:
            self._store.queue(queue_name).hide(msg_id, until=until)
        return {msg_id: self._store.timestamp(until) for msg_id in msg_ids}

    def _holds(self, fence: Fence) -> bool:
        run = self._store.run(fence.run_id)
        task = run.steps[fence.step_slug].tasks[fence.task_index]
        is_running = task.status is State.STARTED and run.status is RunStatus.STARTED
        same = (task.worker_id, task.attempts) == (fence.worker_id, fence.attempt)
        return is_running and same and self._store.timestamp(task.started_at or 0.0) == fence.started_at


class MemoryBackend:
    """The in-memory twin under a clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self.store = MemoryStore(clock=lambda: self._seconds)

    async def add(self, workload: Flow | Queue) -> None:
        self.store.add(workload)

    async def source(self, workload: Flow | Queue, worker_id: UUID | None = None) -> Source:
        made = memory_source(workload, self.store, worker_id or uuid4())
        await made.prepare()
        return made

    async def start(self, slug: str, value: object = None, run_id: UUID | None = None) -> UUID:
        return self.store.start(slug, orjson.dumps(value), run_id)

    async def send(self, queue: str, payload: object) -> int:
        return self.store.send(queue, orjson.dumps(payload))

    async def run(self, run_id: UUID) -> tuple[str, Any]:
        run = self.store.run(run_id)
        return run.status, run.output

    async def tasks(self, run_id: UUID) -> list[tuple[str, int, str, int, str | None]]:
        tasks = [
            (task.step.definition.slug, task.index, str(task.status), task.attempts, task.error)
            for task in self.store.run(run_id).tasks()
        ]
        return sorted(tasks, key=lambda task: task[:2])

    async def job(self, queue: str, msg_id: int) -> Any:
        headers = self.store.message(queue, msg_id).headers
        return {} if headers is None else orjson.loads(headers)

    async def pass_time(self, slug: str, seconds: float) -> None:
        self._seconds += seconds

    async def peer(self, worker_id: UUID) -> Peer:
        return self.store.peer(worker_id)

    async def beat(self, worker_id: UUID, workload: Flow | Queue) -> None:
        self.store.beat(worker_id)

    async def prolong(self, source: Source, tasks: Sequence[ClaimedTask]) -> set[int]:
        assert isinstance(source, MemorySource)
        worker_id = source._worker_id  # pyright: ignore[reportPrivateUsage]
        return await prolong_by(MemoryLeases(self.store), source, worker_id, tasks)


def without_holder(headers: Any) -> Any:
    """Headers as they are while no worker holds the job; memory keeps its holder elsewhere."""
    ours = {key: value for key, value in headers.get(KEY, {}).items() if key not in {"holder", "claimed_at"}}
    rest = {key: value for key, value in headers.items() if key != KEY}
    return rest | {KEY: ours} if ours else rest


class PostgresBackend:
    """A real database, in which time passes by moving every message's visibility back."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def add(self, workload: Flow | Queue) -> None:
        match workload:
            case Flow():
                await self._world.create(workload)
            case Queue():
                await self._world.owner.execute("SELECT pgmq.create($1)", workload.name)

    async def source(self, workload: Flow | Queue, worker_id: UUID | None = None) -> Source:
        match workload:
            case Flow():
                return await self._world.source(workload, worker_id=worker_id)
            case Queue():
                return await self._world.queue_source(workload, worker_id=worker_id)

    async def start(self, slug: str, value: object = None, run_id: UUID | None = None) -> UUID:
        return await self._world.start(slug, value, run_id)

    async def send(self, queue: str, payload: object) -> int:
        return await self._world.send(queue, payload)

    async def run(self, run_id: UUID) -> tuple[str, Any]:
        return await self._world.run(run_id)

    async def tasks(self, run_id: UUID) -> list[tuple[str, int, str, int, str | None]]:
        rows = await self._world.owner.fetch(
            "SELECT step_slug, task_index, status, attempts_count, error_message FROM pgflow.step_tasks "
            'WHERE run_id = $1 ORDER BY step_slug COLLATE "C", task_index',
            run_id,
        )
        return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]

    async def job(self, queue: str, msg_id: int) -> Any:
        archived = await self._world.archived(queue, msg_id)
        return without_holder(await self._world.headers(queue, msg_id) or {}) if archived is None else archived

    async def pass_time(self, slug: str, seconds: float) -> None:
        await self._world.owner.execute(f"UPDATE pgmq.q_{slug} SET vt = vt - make_interval(secs => $1)", float(seconds))

    async def peer(self, worker_id: UUID) -> Peer:
        return await self._world.peer(worker_id)

    async def beat(self, worker_id: UUID, workload: Flow | Queue) -> None:
        match workload:
            case Flow():
                await self._world.beat(worker_id, slug=workload.slug)
            case Queue():
                await self._world.beat(worker_id, slug=workload.name, kind=SourceKind.QUEUE)

    async def prolong(self, source: Source, tasks: Sequence[ClaimedTask]) -> set[int]:
        assert isinstance(source, FlowSource | QueueSource)
        return await prolong(source, tasks)
