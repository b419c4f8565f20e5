"""A database with flows and workers in it, for the tests of the sources."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from tests.conftest import Database

from flowworker.database.connection import Connection
from flowworker.database.heartbeat import Beat, Report, beat, register
from flowworker.database.link import Limits, Link, Links
from flowworker.database.queue_jobs import HOLDER_PATIENCE
from flowworker.database.records import (
    ClaimedTask,
    Completed,
    Failed,
    FailureKind,
    Outcome,
    Peer,
    Receipt,
    Released,
    SourceKind,
    TaskResult,
    Verdict,
)
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.runtime.source import Source
from flowworker.runtime.sources.flow_source import FlowSource
from flowworker.runtime.sources.queue_source import QueueSource

_names = count(1)


def completed(output: object = None) -> Completed:
    return Completed(output=orjson.dumps(output), duration=0.01)


def failed(message: str = "boom", *, retry_after: float | None = None, final: bool = False) -> Failed:
    return Failed(
        kind=FailureKind.EXCEPTION,
        message=message,
        stacktrace="Traceback …",
        duration=0.01,
        retry_after=retry_after,
        final=final,
    )


RELEASED = Released(reason="test")

for_each_outcome = pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (completed(1), Verdict.COMPLETED),
        (failed(), Verdict.RETRYING),
        (failed(final=True), Verdict.FAILED),
        (RELEASED, Verdict.RELEASED),
    ],
    ids=["completed", "retry", "final", "released"],
)
"""The outcomes that a write can have, and what it then answers."""


async def finish_one(source: Source, task: ClaimedTask, outcome: Outcome) -> Receipt:
    finish = await source.finish([TaskResult(task=task, outcome=outcome)])
    return finish.receipts[0]


async def claim_all(source: Source, limit: int = 10, held: Sequence[int] = ()) -> list[ClaimedTask]:
    """Claim, and record that the handlers begin."""
    claim = await source.claim(limit, held)
    if claim.tasks and claim.claimed_at is not None:
        await source.begun(claim.claimed_at)
    return list(claim.tasks)


async def drive(source: Source, handler: Callable[[ClaimedTask], Outcome], *, limit: int = 10) -> list[ClaimedTask]:
    """Claim and finish until nothing more is startable; returns every task in order."""
    seen: list[ClaimedTask] = []
    while tasks := (await source.claim(limit, ())).tasks:
        seen.extend(tasks)
        await source.finish([TaskResult(task=task, outcome=handler(task)) for task in tasks])
    return seen


async def hold_aside(source: FlowSource | QueueSource) -> None:
    """Take the connection aside for a minute, as a claim of another flow may."""
    links = source._links  # pyright: ignore[reportPrivateUsage]
    await links.aside.run(
        lambda connection: connection.execute("SELECT pg_sleep(60)"), limits=Limits(statement=60, lock=1)
    )


def report(worker_id: UUID, *, kind: SourceKind, slug: str, **changes: Any) -> Report:
    plain = Report(
        worker_id=worker_id,
        boot_id=worker_id,
        kind=kind,
        slug=slug,
        queue_name=slug,
        worker_name="test",
        version="0",
        state="running",
        in_flight=0,
        slots=10,
    )
    return replace(plain, **changes)


@dataclass(slots=True, kw_only=True)
class World:
    """Everything one test needs; sources connect with the worker's role."""

    database: Database
    owner: Connection
    _links: list[Links] = field(default_factory=list[Links])

    def links(self) -> Links:
        """Fresh connections of one process."""

        def link(name: str) -> Link:
            limits = Limits(statement=10, lock=2)
            return Link(self.database.worker_dsn, application_name=f"{name}_{next(_names)}", limits=limits)

        names = ("claim", "finish", "aside", "beat", "pulse")
        made = Links(**{name: link(name) for name in names})
        self._links.append(made)
        return made

    async def close(self) -> None:
        """Close the sources' connections."""
        while self._links:
            links = self._links.pop()
            for link in (*links.of_main_loop(), links.beat, links.pulse):
                await link.close()

    async def create(self, flow: Flow) -> None:
        """Compile a flow the plain way."""
        options = flow.options
        await self.owner.execute(
            "SELECT pgflow.create_flow($1, $2, $3, $4)",
            flow.slug, options.max_attempts, options.base_delay, options.timeout,
        )  # fmt: skip
        for step in flow.steps.values():
            await self.owner.execute(
                "SELECT pgflow.add_step(flow_slug => $1, step_slug => $2, deps_slugs => $3, max_attempts => $4, "
                "base_delay => $5, timeout => $6, start_delay => $7, step_type => $8)",
                flow.slug, step.slug, list(step.dependencies), step.options.max_attempts, step.options.base_delay,
                step.options.timeout, step.options.start_delay, step.kind,
            )  # fmt: skip

    async def start(self, slug: str, value: object = None, run_id: UUID | None = None) -> UUID:
        """Start a run and return its id."""
        return await self.owner.fetchval(
            "SELECT run_id FROM pgflow.start_flow($1, $2, $3)", slug, orjson.dumps(value), run_id
        )

    async def source(self, flow: Flow, *, worker_id: UUID | None = None, prepared: bool = True) -> FlowSource:
        """A registered worker's source."""
        worker_id = worker_id or uuid4()
        await self.register(worker_id, slug=flow.slug)
        made = FlowSource(flow=flow, worker_id=worker_id, links=self.links())
        if prepared:
            await made.prepare()
        return made

    async def queue_source(
        self, queue: Queue, *, worker_id: UUID | None = None, has_watched: bool = True
    ) -> QueueSource:
        """A registered worker's source of a queue that is created where it is missing."""
        worker_id = worker_id or uuid4()
        await self.register(worker_id, slug=queue.name, kind=SourceKind.QUEUE)
        await self.owner.execute("SELECT pgmq.create($1)", queue.name)
        made = QueueSource(queue=queue, worker_id=worker_id, links=self.links(), has_watched=lambda: has_watched)
        await made.prepare()
        return made

    async def send(self, queue: str, payload: object, headers: object = None) -> int:
        """Send a job and return its id."""
        return await self.owner.fetchval(
            "SELECT pgmq.send($1, $2::jsonb, $3::jsonb)",
            queue, orjson.dumps(payload), None if headers is None else orjson.dumps(headers),
        )  # fmt: skip

    async def archived(self, queue: str, msg_id: int) -> Any:
        """Headers of an archived message; None while it is not archived."""
        row = await self.owner.fetchrow(f"SELECT headers FROM pgmq.a_{queue.lower()} WHERE msg_id = $1", msg_id)
        return None if row is None else orjson.loads(row["headers"] or b"{}")

    async def register(self, worker_id: UUID, *, slug: str, kind: SourceKind = SourceKind.FLOW, **changes: Any) -> Beat:
        return await register(self.owner, [report(worker_id, kind=kind, slug=slug, **changes)])

    async def beat(self, worker_id: UUID, *, slug: str, kind: SourceKind = SourceKind.FLOW, **changes: Any) -> Beat:
        return await beat(self.owner, [report(worker_id, kind=kind, slug=slug, **changes)])

    async def peer(self, worker_id: UUID) -> Peer:
        """What an observer knows about a worker at this moment."""
        row = await self.owner.fetchrow("SELECT * FROM flowworker.workers WHERE worker_id = $1", worker_id)
        assert row is not None
        return Peer(
            worker_id=worker_id,
            boot_id=row["boot_id"],
            pod_uid=row["pod_uid"],
            state=row["state"],
            beat=row["reported_at"],
        )

    async def run(self, run_id: UUID) -> tuple[str, Any]:
        """Status and decoded output of a run."""
        row = await self.owner.fetchrow("SELECT status, output FROM pgflow.runs WHERE run_id = $1", run_id)
        assert row is not None
        return row["status"], None if row["output"] is None else orjson.loads(row["output"])

    async def task(self, run_id: UUID, step: str, index: int = 0) -> dict[str, Any]:
        """A task's row."""
        row = await self.owner.fetchrow(
            "SELECT * FROM pgflow.step_tasks WHERE run_id = $1 AND step_slug = $2 AND task_index = $3",
            run_id, step, index,
        )  # fmt: skip
        assert row is not None
        return dict(row)

    async def seconds_until_visible(self, slug: str, msg_id: int) -> float:
        return await self.owner.fetchval(
            f"SELECT extract(epoch FROM vt - clock_timestamp())::float8 FROM pgmq.q_{slug.lower()} WHERE msg_id = $1",
            msg_id,
        )

    async def make_visible(self, slug: str) -> None:
        """Let every message of a queue become visible now."""
        await self.owner.execute(f"UPDATE pgmq.q_{slug.lower()} SET vt = clock_timestamp()")

    async def let_lease_lapse(self, queue: str, msg_id: int | None = None) -> None:
        """Let the leases of a queue's jobs, or of one, have ended so long ago that other workers may take them."""
        await self.owner.execute(
            f"UPDATE pgmq.q_{queue} SET vt = clock_timestamp() - make_interval(secs => $1) "
            "WHERE msg_id = coalesce($2, msg_id)",
            HOLDER_PATIENCE, msg_id,
        )  # fmt: skip

    async def headers(self, slug: str, msg_id: int) -> Any:
        value = await self.owner.fetchval(f"SELECT headers FROM pgmq.q_{slug.lower()} WHERE msg_id = $1", msg_id)
        return None if value is None else orjson.loads(value)

    async def heard(self, channel: str) -> "asyncio.Queue[str]":
        """Channels on which a notification came, from now on."""
        heard: asyncio.Queue[str] = asyncio.Queue()

        def hear(_connection: object, _pid: int, on: str, _payload: object) -> None:
            heard.put_nowait(on)

        await self.owner.add_listener(channel, hear)
        return heard

    async def now(self) -> datetime:
        return await self.owner.fetchval("SELECT clock_timestamp()")


@asynccontextmanager
async def a_world(database: Database) -> AsyncGenerator[World]:
    owner = await database.connect()
    world = World(database=database, owner=owner)
    try:
        yield world
    finally:
        await world.close()
        await owner.close()
