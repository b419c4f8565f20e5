"""What a worker serves, seen by the executor: for each task the handler that runs it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, assert_never

from flowworker.database.records import ClaimedTask
from flowworker.definition.codec import ANYTHING, Reader, Writer
from flowworker.definition.context import TaskContext
from flowworker.definition.flow import Flow
from flowworker.definition.handler import Arguments, RunMode
from flowworker.definition.loading import Workload
from flowworker.definition.queue import Queue


class Runnable(Protocol):
    """What the executor needs of a handler; `flowworker.definition.handler.Handler` is one."""

    @property
    def mode(self) -> RunMode: ...

    @property
    def needs_flow_input(self) -> bool: ...

    def decode(self, input: bytes, flow_input: bytes | None) -> Arguments: ...  # noqa: A002 - pgflow's word

    @property
    def wants_context(self) -> bool: ...

    def call(self, arguments: Arguments, context: TaskContext | None) -> Any: ...

    def encode(self, output: object) -> bytes: ...


Router: TypeAlias = Callable[[ClaimedTask], Runnable]
"""Finds the handler of a task; raises InputError when its payload fits none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """What a worker's own `perform_work` receives: one message of a plain queue."""

    id: int
    """The message's id."""
    attempt: int
    """1 for the first attempt."""
    payload: Any
    """The payload, decoded from JSON."""
    context: TaskContext


@dataclass(frozen=True, slots=True, kw_only=True)
class HookHandler:
    """Runs each job through one coroutine function instead of the queue's own handlers."""

    perform_work: Callable[[JobRun], Awaitable[Any]]
    queue_name: str
    mode: RunMode = RunMode.ASYNC
    needs_flow_input: bool = False
    reader: Reader = field(init=False)
    writer: Writer = field(init=False)

    def __post_init__(self) -> None:
        writer = Writer(subject=f"result of perform_work for queue {self.queue_name!r}", adapter=ANYTHING)
        object.__setattr__(self, "writer", writer)
        reader = Reader(subject=f"payload of queue {self.queue_name!r}", adapter=ANYTHING)
        object.__setattr__(self, "reader", reader)

    def decode(self, input: bytes, flow_input: bytes | None) -> Arguments:  # noqa: A002 - pgflow's word
        return Arguments(values={"payload": self.reader.read(input)})

    @property
    def wants_context(self) -> bool:
        return True

    def call(self, arguments: Arguments, context: TaskContext | None) -> Any:
        assert context is not None
        job = JobRun(
            id=context.message.msg_id, attempt=context.attempt, payload=arguments.values["payload"], context=context
        )
        return self.perform_work(job)

    def encode(self, output: object) -> bytes:
        return self.writer.write(output)


def router_of(workload: Workload) -> Router:
    """The ordinary router: a flow's step by its slug, a queue's handler by its payload."""
    match workload:
        case Flow():
            return lambda task: workload.steps[task.step_slug].handler
        case Queue():
            return lambda task: workload.handler_for(task.input)
        case _:
            assert_never(workload)


def has_dependants(workload: Workload, step_slug: str) -> bool:
    """Whether finishing this step may make others ready."""
    match workload:
        case Flow():
            return any(step_slug in step.dependencies for step in workload.steps.values())
        case Queue():
            return False
        case _:
            assert_never(workload)
