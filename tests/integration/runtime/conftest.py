"""Helpers of the runtime's tests: workers with a worker's rights, and what they said."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import pytest
from testkit.support.heard import Heard
from testkit.support.waiting import PATIENCE, until
from tests.conftest import Database

from flowworker.database.connection import Connection, connect
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.runtime.host import Host
from flowworker.runtime.sources.opening import compile_workload
from flowworker.runtime.worker import Worker
from flowworker.worker_options import CompileMode


@dataclass
class World:
    """A database with an owner's connection, and workers that have a worker's rights."""

    database: Database
    owner: Connection
    heard: Heard = field(default_factory=Heard)

    async def superuser(self) -> Connection:
        """A connection that may end other people's."""
        return await connect(self.database.superuser_dsn, application_name="test")

    async def create(self, *workloads: Flow | Queue) -> None:
        """Bring flows and queues into the database, as the owner would."""
        host = Host(self.database.dsn)
        for workload in workloads:
            await compile_workload(workload, links=host.links, mode=CompileMode.AUTO)
        await host.links.claim.close()

    def worker(self, workload: Flow | Queue, kind: type[Worker] = Worker, **options: Any) -> Worker:
        """A worker that is quick to look again."""
        quick: dict[str, Any] = {"min_poll_interval": 0.05, "max_poll_interval": 0.1, "events": self.heard.stream}
        quick.update({"dsn": self.database.worker_dsn} if "host" not in options else {})
        quick.update(options)
        return kind(workload, **quick)

    async def start_run(self, flow: Flow, value: object) -> UUID:
        """Start a run."""
        row = await self.owner.fetchrow("SELECT run_id FROM pgflow.start_flow($1, $2)", flow.slug, orjson.dumps(value))
        assert row is not None
        return row["run_id"]

    async def run(self, run_id: UUID) -> tuple[str, Any]:
        """A run's status and output."""
        row = await self.owner.fetchrow("SELECT status, output FROM pgflow.runs WHERE run_id = $1", run_id)
        assert row is not None
        return row["status"], None if row["output"] is None else orjson.loads(row["output"])

    async def ended(self, run_id: UUID, *, patience: float = PATIENCE) -> tuple[str, Any]:
        """Status and output of a run once it has ended."""

        async def look() -> tuple[str, Any] | None:
            found = await self.run(run_id)
            return None if found[0] == "started" else found

        return await until(look, "the run has ended", patience=patience)

    async def task(self, run_id: UUID, step: str, index: int = 0) -> dict[str, Any]:
        """The row of one task."""
        row = await self.owner.fetchrow(
            "SELECT * FROM pgflow.step_tasks WHERE run_id = $1 AND step_slug = $2 AND task_index = $3",
            run_id, step, index,
        )  # fmt: skip
        assert row is not None
        return dict(row)

    async def send(self, queue: Queue, payload: object, *, delay: int = 0) -> int:
        """Send a job."""
        return await self.owner.fetchval(
            "SELECT * FROM pgmq.send($1::text, $2::jsonb, $3::integer)", queue.name, orjson.dumps(payload), delay
        )

    async def archived(self, queue: Queue, msg_id: int) -> dict[str, Any] | None:
        """What the archive says about a job; None while it is not there."""
        text = await self.owner.fetchval(f"SELECT headers FROM pgmq.a_{queue.name} WHERE msg_id = $1", msg_id)
        return None if text is None else orjson.loads(text)["flowworker"]

    async def done(self, queue: Queue, msg_id: int) -> dict[str, Any]:
        """The same once it is there."""
        return await until(lambda: self.archived(queue, msg_id), "the job is archived")

    async def worker_row(self, worker_id: UUID) -> dict[str, Any]:
        """What a worker reported last."""
        row = await self.owner.fetchrow("SELECT * FROM flowworker.workers WHERE worker_id = $1", worker_id)
        assert row is not None
        return dict(row)


@pytest.fixture
async def world(database: Database, owner: Connection) -> World:
    """A world of one test."""
    return World(database, owner)
