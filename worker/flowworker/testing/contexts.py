"""A TaskContext made by hand, for handlers that want one."""

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from flowworker.definition.context import Message, TaskContext
from flowworker.runtime.cancellation import CancelSignal

handler_logger = logging.getLogger("flowworker.handler")


def task_context(
    *,
    run_id: UUID | None = None,
    step_slug: str = "step",
    task_index: int = 0,
    attempt: int = 1,
    max_attempts: int = 3,
    timeout: float = 60.0,
    cancelled: bool = False,
    flow_input: Any = None,
    msg_id: int = 1,
    headers: Mapping[str, Any] | None = None,
) -> TaskContext:
    """A context as a worker would give it to a handler.

    Args:
        run_id: a new id when left out.
        step_slug: the step's slug, or the queue's name.
        task_index: which task of a map step.
        attempt: 1 for the first attempt.
        max_attempts: how many there are.
        timeout: seconds from now to the context's deadline.
        cancelled: whether the work is no longer wanted from the start.
        flow_input: what `await ctx.flow_input()` gives.
        msg_id: id of the message behind the task.
        headers: headers of that message.
    """
    run_id = run_id or uuid4()
    signal = CancelSignal()
    if cancelled:
        signal.set("cancelled by the test")

    async def load_flow_input() -> Any:
        return flow_input

    return TaskContext(
        run_id=run_id,
        step_slug=step_slug,
        task_index=task_index,
        attempt=attempt,
        max_attempts=max_attempts,
        deadline=time.monotonic() + timeout,
        cancelled=signal,
        message=Message(msg_id=msg_id, read_count=attempt, enqueued_at=datetime.now(UTC), headers=dict(headers or {})),
        logger=logging.LoggerAdapter(handler_logger, {"step_slug": step_slug, "attempt": attempt}),
        idempotency_key=f"{run_id}:{step_slug}:{task_index}",
        load_flow_input=load_flow_input,
    )
