"""Stand-ins for what is outside: a source that answers from a script, tasks made of nothing, virtual time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flowworker.database.link import Limits
from flowworker.database.records import (
    ClaimedTask,
    Completed,
    Failed,
    Peer,
    Receipt,
    Released,
    SourceKind,
    TaskResult,
    Verdict,
)
from flowworker.definition.context import TaskContext
from flowworker.definition.handler import Arguments, RunMode
from flowworker.runtime.source import Claim, Finish, Recovery
from flowworker.telemetry.events import WorkerInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = UUID(int=1)
INFO = WorkerInfo(worker_id=UUID(int=2), worker_name="tester", kind=SourceKind.FLOW, slug="flow")


def now() -> float:
    """Seconds of the running loop: virtual under looptime."""
    return asyncio.get_running_loop().time()


def make_task(msg_id: int = 1, **changes: Any) -> ClaimedTask:
    """A task."""
    values: dict[str, Any] = {
        "msg_id": msg_id,
        "run_id": RUN,
        "step_slug": "step",
        "task_index": 0,
        "attempt": 1,
        "max_attempts": 3,
        "timeout": 60.0,
        "losses": 0,
        "read_count": 1,
        "enqueued_at": NOW,
        "visible_at": NOW,
        "started_at": NOW,
        "input": b"{}",
        "flow_input": b"1",
        "headers": None,
    }
    return ClaimedTask(**{**values, **changes})


def make_peer(number: int, beat: int, **changes: Any) -> Peer:
    """A peer whose beat is a number."""
    values: dict[str, Any] = {
        "worker_id": UUID(int=number),
        "boot_id": UUID(int=1000 + number),
        "pod_uid": None,
        "state": "running",
        "beat": datetime.fromtimestamp(beat, UTC),
    }
    return Peer(**{**values, **changes})


def receipt_of(result: TaskResult) -> Receipt:
    """What a willing database answers."""
    match result.outcome:
        case Completed():
            return Receipt(result=result, verdict=Verdict.COMPLETED)
        case Failed():
            return Receipt(result=result, verdict=Verdict.RETRYING, retry_in=5.0)
        case Released():
            return Receipt(result=result, verdict=Verdict.RELEASED)


@dataclass
class ScriptedSource:
    """Gives the claims it was given, and remembers what was asked."""

    claims: deque[Claim | Exception] = field(default_factory=deque[Claim | Exception])
    kind: SourceKind = SourceKind.FLOW
    slug: str = "flow"
    queue_name: str = "flow"
    asked: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    finished: list[Sequence[TaskResult]] = field(default_factory=list[Sequence[TaskResult]])
    patience: list[Limits | None] = field(default_factory=list[Limits | None])
    before_finish: Callable[[], Awaitable[None]] | None = None
    due: float | None = None
    doubts: int = 0

    async def prepare(self) -> None: ...

    async def claim(self, limit: int, held: Collection[int]) -> Claim:
        self.asked.append((now(), limit))
        answer = self.claims.popleft() if self.claims else Claim()
        if isinstance(answer, Exception):
            raise answer
        return replace(answer, full=answer.read >= limit)

    async def finish(
        self, results: Sequence[TaskResult], *, patience: Limits | None = None, waits_for_lock: bool = False
    ) -> Finish:
        self.patience.append(patience)
        self.finished.append(results)
        if self.before_finish is not None:
            await self.before_finish()
        return Finish(receipts=[receipt_of(result) for result in results])

    async def next_due(self) -> float | None:
        return self.due

    async def flow_input(self, run_id: UUID) -> bytes:
        return b"1"

    async def recover(self, dead: Collection[Peer], held: Callable[[], Collection[int]] | None = None) -> Recovery:
        return Recovery()

    async def begun(self, claimed_at: datetime) -> None: ...

    async def forgive(self, tasks: Sequence[ClaimedTask]) -> None: ...


def a_claim(*msg_ids: int, read: int | None = None) -> Claim:
    """A claim that brought these messages."""
    return Claim(
        tasks=[make_task(msg_id) for msg_id in msg_ids],
        read=len(msg_ids) if read is None else read,
        claimed_at=NOW,
    )


class Plain:
    """A handler that is just a function of the context."""

    def __init__(self, function: Callable[[TaskContext], Any], mode: RunMode = RunMode.ASYNC) -> None:
        self.function = function
        self.mode = mode
        self.needs_flow_input = False
        self.wants_context = True

    def decode(self, input: bytes, flow_input: bytes | None) -> Arguments:  # noqa: A002
        return Arguments(values={})

    def call(self, arguments: Arguments, context: TaskContext | None) -> Any:
        assert context is not None
        return self.function(context)

    def encode(self, output: object) -> bytes:
        return repr(output).encode()


async def no_input(_: UUID) -> bytes:
    """Loads the input of a run that nothing asks for."""
    return b"1"
