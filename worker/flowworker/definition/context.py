"""What a handler may know about the task it runs."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID


class Cancellation(Protocol):
    """Signals to a handler that its work is no longer wanted (timeout, shutdown, lost lease, run ended)."""

    def is_set(self) -> bool:
        """Whether the handler should stop; safe to ask from any thread."""
        ...

    async def wait(self) -> object:
        """Return once the handler should stop; for handlers on the event loop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The pgmq message behind a task."""

    msg_id: int
    read_count: int
    enqueued_at: datetime
    headers: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """Given to a handler whose signature has a parameter annotated `TaskContext`.

    A job of a plain queue has no run: its `run_id` is None and `step_slug` is the queue's name.
    """

    run_id: UUID | None
    step_slug: str
    task_index: int
    attempt: int
    """1 for the first attempt."""
    max_attempts: int
    deadline: float
    """`time.monotonic()` at which this attempt times out."""
    cancelled: Cancellation
    message: Message
    logger: logging.Logger | logging.LoggerAdapter[logging.Logger]
    idempotency_key: str
    """`run_id:step_slug:task_index`, or `queue:msg_id`: the same for every attempt of one task."""
    load_flow_input: Callable[[], Awaitable[Any]]

    async def flow_input(self) -> Any:
        """The run's input, decoded to the flow's input type; loaded once, on demand."""
        return await self.load_flow_input()
