"""A completer on a real database, for the tests of results in trouble."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from tests.integration.sources.world import World

from flowworker.database.link import Limits, Link, Links
from flowworker.database.records import ClaimedTask, Outcome, Receipt, RunEnd, SourceKind, TaskResult, Verdict
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.runtime.held_tasks import HeldTask
from flowworker.runtime.loops.completer import Completer
from flowworker.runtime.sources.flow_source import FlowSource
from flowworker.runtime.sources.queue_source import QueueSource

PATIENCE = 60.0
"""Seconds after which a test fails."""

QUICK = Limits(statement=1.0, lock=0.3)
"""Of the fast lane, so that trouble shows soon."""


def links_of(dsn: str, limits: Limits = QUICK) -> Links:
    """Connections of one process."""
    names = ("claim", "finish", "aside", "beat", "pulse")
    roomy = Limits(statement=30.0, lock=5.0)
    return Links(
        **{
            name: Link(dsn, application_name=f"writing {name}", limits=limits if name == "finish" else roomy)
            for name in names
        }
    )


@dataclass(kw_only=True)
class Writing:
    """A source with its completer, and the answers so far."""

    source: FlowSource | QueueSource
    completer: Completer = field(init=False)
    receipts: list[Receipt] = field(default_factory=list[Receipt])
    ends: list[RunEnd] = field(default_factory=list[RunEnd])
    errors: list[str] = field(default_factory=list[str])
    crashes: list[BaseException] = field(default_factory=list[BaseException])

    def __post_init__(self) -> None:
        self.completer = Completer(
            self,
            source=self.source,
            name="tester",
            on_crash=self.crashes.append,
            randomness=lambda: 0.01,  # pauses that a test can wait for
        )

    def settled(self, held_task: HeldTask, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    def run_ended(self, end: RunEnd) -> None:
        self.ends.append(end)

    def failed(self, error: str) -> None:
        self.errors.append(error)

    def set_aside(self, held_task: HeldTask, aside: bool) -> None: ...

    def submit(self, tasks: Sequence[ClaimedTask], outcome: Callable[[ClaimedTask], Outcome]) -> None:
        """Hand over what became of tasks."""
        for task in tasks:
            self.completer.submit(HeldTask(task=task, claimed_at=0.0), TaskResult(task=task, outcome=outcome(task)))

    def verdicts(self) -> dict[int, Verdict]:
        """By message."""
        return {receipt.result.task.msg_id: receipt.verdict for receipt in self.receipts}

    async def until_settled(self, count: int, *, patience: float = PATIENCE) -> None:
        """Wait until so many results are settled."""
        async with asyncio.timeout(patience):
            while len(self.receipts) < count:  # noqa: ASYNC110 - a condition with a deadline
                await asyncio.sleep(0.01)


async def claim_everything(source: FlowSource | QueueSource) -> list[ClaimedTask]:
    """All that can start now: one claim brings a bounded number."""
    tasks: list[ClaimedTask] = []
    while (claim := await source.claim(200, [task.msg_id for task in tasks])).read:
        tasks.extend(claim.tasks)
    return tasks


@asynccontextmanager
async def writing(
    world: World, workload: Flow | Queue, *, dsn: str | None = None, limits: Limits = QUICK
) -> AsyncGenerator[Writing]:
    """A registered worker that writes, ended with the block."""
    links = links_of(dsn or world.database.worker_dsn, limits)
    worker_id: UUID = uuid4()
    match workload:
        case Flow():
            await world.register(worker_id, slug=workload.slug)
            source: FlowSource | QueueSource = FlowSource(flow=workload, worker_id=worker_id, links=links)
        case Queue():
            await world.register(worker_id, slug=workload.name, kind=SourceKind.QUEUE)
            source = QueueSource(queue=workload, worker_id=worker_id, links=links, has_watched=lambda: False)
    await source.prepare()
    made = Writing(source=source)
    made.completer.start()
    try:
        yield made
    finally:
        await made.completer.stop()
        for link in (*links.of_main_loop(), links.beat, links.pulse):
            await link.close()
    assert made.crashes == []
