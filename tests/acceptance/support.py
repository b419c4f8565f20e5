"""What the acceptance tests share: a database, an owner, a client and workers with a worker's rights."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from testkit.support.heard import Heard
from testkit.support.waiting import until
from tests.conftest import Database

from flowworker import Client, Flow, Queue, Worker, WorkerPool
from flowworker.database.capabilities import detect
from flowworker.database.compile import ensure_compiled, ensure_queue
from flowworker.database.connection import Connection, connect
from flowworker.database.jobs_admin import Job, JobState
from flowworker.database.runs import Run
from flowworker.database.workers_admin import WorkerReport

QUICK: dict[str, Any] = {"min_poll_interval": 0.05, "max_poll_interval": 0.1}
"""For rows that are not about the pace of polling."""

SLOW: dict[str, Any] = {"min_poll_interval": 45.0, "max_poll_interval": 45.0, "notify_fallback_interval": 50.0}
"""So slow that no timer of the worker's can be what found the work within a test."""

PATIENCE = 20.0
"""Seconds in which whatever is waited for has to happen; less than any pause of SLOW."""

OVER = frozenset({JobState.DONE, JobState.FAILED, JobState.ARCHIVED})


@dataclass
class Stage:
    """A database with its owner, a client, and whatever workers a test puts on it."""

    database: Database
    owner: Connection
    client: Client
    heard: Heard

    async def create(self, *workloads: Flow | Queue) -> None:
        """Bring flows and queues into the database, as `flowworker flows compile` does for the owner."""
        features = await detect(self.owner)
        for workload in workloads:
            if isinstance(workload, Flow):
                await ensure_compiled(self.owner, workload, features)
            else:
                await ensure_queue(self.owner, workload, features)

    def worker(self, workload: Flow | Queue, kind: type[Worker] = Worker, /, **options: Any) -> Worker:
        """A worker with a worker's rights that is quick to look again."""
        given: dict[str, Any] = {"dsn": self.database.worker_dsn, "events": self.heard.stream, **QUICK, **options}
        return kind(workload, **given)

    def pool(self, workloads: Any, **options: Any) -> WorkerPool:
        """The same with a pool."""
        given: dict[str, Any] = {"dsn": self.database.worker_dsn, "events": self.heard.stream, **QUICK, **options}
        return WorkerPool(workloads, **given)

    async def start(self, flow: Flow | str, value: Any) -> UUID:
        """Start a run of whatever input, also of one that the flow's types would refuse."""
        return (await self.client.start(flow if isinstance(flow, str) else flow.slug, value)).run_id

    async def ended(self, run_id: UUID, *, patience: float = PATIENCE) -> Run:
        """A run once it has ended."""
        return await self.client.wait(run_id, timeout=patience)

    async def finish(self, flow: Flow, value: Any, *, patience: float = PATIENCE) -> Run:
        """Start a run and wait for its end."""
        return await self.ended(await self.start(flow, value), patience=patience)

    async def send(self, queue: Queue, payload: Any) -> int:
        """Send a job of whatever payload, also of one that no handler takes."""
        return await self.client.send(queue.name, payload)

    async def job_over(self, queue: Queue, job_id: int, *, patience: float = PATIENCE) -> Job:
        """A job once it is done or has failed for good."""

        async def look() -> Job | None:
            job = await self.client.job(queue, job_id)
            return job if job.state in OVER else None

        return await until(look, f"the end of job {job_id} of {queue.name}", patience=patience)

    async def do(self, queue: Queue, payload: Any, *, patience: float = PATIENCE) -> Job:
        """Send a job and wait for its end."""
        return await self.job_over(queue, await self.send(queue, payload), patience=patience)

    async def task(self, run_id: UUID, step: str) -> dict[str, Any]:
        """The row of a single step's task."""
        row = await self.owner.fetchrow(
            "SELECT * FROM pgflow.step_tasks WHERE run_id = $1 AND step_slug = $2 AND task_index = 0", run_id, step
        )
        assert row is not None
        return dict(row)

    async def report(self, worker_id: UUID) -> WorkerReport:
        """What a worker said about itself last."""
        return next(one for one in await self.client.workers(ended=True) if one.worker_id == worker_id)

    async def listening(self, worker: Worker) -> None:
        """Return once announcements of inserts reach a worker."""
        await until(lambda: worker.state().signal.listening, "a worker that listens")

    async def announce(self, name: str) -> None:
        """Have inserts into a queue announced, as its owner may."""
        await self.owner.execute("SELECT pgmq.enable_notify_insert($1)", name)

    async def as_superuser(self, statement: str, *arguments: Any) -> Any:
        """The first value of a statement that no role of ours may run."""
        connection = await connect(self.database.superuser_dsn, application_name="test")
        try:
            await connection.execute("SET default_transaction_read_only = off")  # whatever a test made the default
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()

    async def break_connections(self) -> int:
        """End every connection of workers to this database; gives their number."""
        return await self.as_superuser(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = $1 AND application_name LIKE 'flowworker %'",
            self.database.name,
        )


@dataclass
class Gate:
    """A handler's stop and go: it says that it has begun, and goes on when it is let."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def pass_through(self) -> None:
        """What the handler awaits."""
        self.begun.set()
        await self.release.wait()

    async def reached(self) -> None:
        """Return once a handler waits here."""
        async with asyncio.timeout(PATIENCE):
            await self.begun.wait()


async def make_stage(database: Database) -> Stage:
    """A stage on an installed database; `clear` it afterwards."""
    heard = Heard()
    client = Client(database.worker_dsn, events=heard.stream)
    return Stage(database, await database.connect(), client, heard)


async def clear(stage: Stage) -> None:
    """Close what a stage opened itself."""
    await stage.client.close()
    await stage.owner.close()


def elsewhere(work: Callable[[], Awaitable[Any]]) -> "asyncio.Future[Any]":
    """Do something on an event loop of another thread, which goes on while a handler blocks this one."""

    async def run() -> Any:
        return await work()

    return asyncio.ensure_future(asyncio.to_thread(asyncio.run, run()))
