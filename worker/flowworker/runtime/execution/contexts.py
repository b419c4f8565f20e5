"""Builds the context that a handler may ask for."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from flowworker.database.headers import readable_headers
from flowworker.database.records import ClaimedTask
from flowworker.definition.context import Message, TaskContext
from flowworker.runtime.held_tasks import HeldTask

handler_logger = logging.getLogger("flowworker.handler")

LoadFlowInput = Callable[[UUID], Awaitable[Any]]
"""The decoded input of a run."""


def make_context(
    held_task: HeldTask, *, deadline: float, worker_name: str, load_flow_input: LoadFlowInput
) -> TaskContext:
    """The context of one attempt.

    Args:
        held_task: the task.
        deadline: monotonic seconds.
        worker_name: goes into the logger's fields.
        load_flow_input: loads and decodes the input of a run.
    """
    task = held_task.task
    identity = {
        "worker": worker_name,
        "run_id": None if task.run_id is None else str(task.run_id),
        "step_slug": task.step_slug,
        "task_index": task.task_index,
        "attempt": task.attempt,
        "msg_id": task.msg_id,
    }
    return TaskContext(
        run_id=task.run_id,
        step_slug=task.step_slug,
        task_index=task.task_index,
        attempt=task.attempt,
        max_attempts=task.max_attempts,
        deadline=deadline,
        cancelled=held_task.cancelled,
        message=Message(
            msg_id=task.msg_id,
            read_count=task.read_count,
            enqueued_at=task.enqueued_at,
            headers=readable_headers(task.headers),
        ),
        logger=logging.LoggerAdapter(handler_logger, identity),
        idempotency_key=idempotency_key(task),
        load_flow_input=lambda: _flow_input(task, load_flow_input),
    )


def idempotency_key(task: ClaimedTask) -> str:
    """The same for every attempt of one task, different for every other task."""
    if task.run_id is None:
        return f"{task.step_slug}:{task.msg_id}"
    return f"{task.run_id}:{task.step_slug}:{task.task_index}"


def describe_task(task: ClaimedTask) -> str:
    """A task in words, for names of asyncio tasks and threads."""
    if task.run_id is None:
        return f"job {task.msg_id} of {task.step_slug}, attempt {task.attempt}"
    return f"step {task.step_slug}[{task.task_index}] of run {task.run_id}, attempt {task.attempt}"


async def _flow_input(task: ClaimedTask, load: LoadFlowInput) -> Any:
    if task.run_id is None:
        raise LookupError("a job of a plain queue belongs to no run and has no flow input")
    return await load(task.run_id)
