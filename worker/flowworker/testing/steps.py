"""Runs one handler the way a worker does: JSON in, by the types of the signature; JSON out, or an error."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar, overload

import orjson

from flowworker.definition.codec import ANYTHING, Writer
from flowworker.definition.context import TaskContext
from flowworker.definition.handler import Handler, RunMode
from flowworker.definition.queue import Job
from flowworker.definition.step import Step
from flowworker.errors import UsageError
from flowworker.testing.blocking import run_blocking
from flowworker.testing.contexts import task_context

T = TypeVar("T")


@overload
def run_step(
    step: Step[..., Coroutine[Any, Any, T], Any], /, *values: Any, context: TaskContext | None = None, **inputs: Any
) -> T: ...
@overload
def run_step(step: Step[..., T, Any], /, *values: Any, context: TaskContext | None = None, **inputs: Any) -> T: ...
def run_step(
    step: Step[..., Any, Any], /, *values: Any, context: TaskContext | None = None, **inputs: Any
) -> Any:  # fmt: skip
    """Run one attempt of one task of a step, without a database.

    The inputs go through JSON as they would in production, so a value that does not fit the handler's annotation, or
    an output that cannot be stored, fails here too. Timeouts are not enforced, and a `run_in="process"` handler runs
    in a thread: use `run_flow` for those.

    Args:
        step: the decorated function.
        *values: its arguments but the context, in order.
        context: what a parameter annotated `TaskContext` gets; see `task_context`.
        **inputs: its arguments by name.

    Returns:
        What the handler returned.

    Raises:
        InputError: an argument does not fit.
        OutputError: the output does not fit, or cannot be stored as JSON.
        UsageError: an argument is missing or unknown; or an event loop is running, then use `run_step_async`.
        Exception: whatever the handler raised.
    """
    return run_blocking(run_step_async(step, *values, context=context, **inputs), "run_step")


async def run_step_async(
    step: Step[..., Any, Any], /, *values: Any, context: TaskContext | None = None, **inputs: Any
) -> Any:
    """Do what `run_step` does, in a test that is a coroutine."""
    slug = step.slug
    return await _run(step.handler, values, inputs, context or task_context(step_slug=slug))


@overload
def run_job(job: Job[..., Coroutine[Any, Any, T]], payload: Any, *, context: TaskContext | None = None) -> T: ...
@overload
def run_job(job: Job[..., T], payload: Any, *, context: TaskContext | None = None) -> T: ...
def run_job(job: Job[..., Any], payload: Any, *, context: TaskContext | None = None) -> Any:
    """Run one attempt of one job, without a database; the counterpart of `run_step`.

    Args:
        job: the decorated function.
        payload: its payload.
        context: what a parameter annotated `TaskContext` gets.

    Raises:
        InputError: the payload does not fit.
        OutputError: the result cannot be stored as JSON.
        UsageError: an event loop is running: use `run_job_async`.
        Exception: whatever the handler raised.
    """
    return run_blocking(run_job_async(job, payload, context=context), "run_job")


async def run_job_async(job: Job[..., Any], payload: Any, *, context: TaskContext | None = None) -> Any:
    """Do what `run_job` does, in a test that is a coroutine."""
    values = () if job.handler.payload is None else (payload,)
    return await _run(job.handler, values, {}, context or task_context(step_slug=job.queue_name))


async def _run(handler: Handler, values: tuple[Any, ...], inputs: Mapping[str, Any], context: TaskContext) -> Any:
    given = _bound(handler, values, inputs)
    arguments = handler.decode(*_as_json(handler, given))
    if handler.mode is RunMode.ASYNC:
        output = await handler.call(arguments, context)
    else:
        output = await asyncio.to_thread(handler.call, arguments, context)
    handler.encode(output)
    return output


def _bound(handler: Handler, values: tuple[Any, ...], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by parameter name."""
    names = [name for name in (*handler.positional, *handler.keywords) if name != handler.context]
    if len(values) > len(names):
        raise UsageError(f"{handler.subject} takes {len(names)} inputs ({', '.join(names)}), got {len(values)}")
    given = dict(zip(names, values, strict=False))
    if twice := given.keys() & inputs.keys():
        raise UsageError(f"{handler.subject}: {', '.join(sorted(twice))} is given twice")
    if unknown := inputs.keys() - names:
        raise UsageError(f"{handler.subject} takes no {', '.join(sorted(unknown))}; its inputs are {', '.join(names)}")
    return {**given, **inputs}


def _as_json(handler: Handler, given: Mapping[str, Any]) -> tuple[bytes, bytes | None]:
    """The task's input and the run's input, as the database would hand them over."""
    if handler.payload is not None:
        return _encoded(handler, handler.payload.name, given), None
    depended = handler.dependencies.names if handler.dependencies else ()
    outputs = {name: orjson.Fragment(_encoded(handler, name, given)) for name in depended if name in given}
    run_input = _encoded(handler, handler.run_input.name, given) if handler.run_input else None
    return orjson.dumps(outputs), run_input


def _encoded(handler: Handler, name: str, given: Mapping[str, Any]) -> bytes:
    if name not in given:
        raise UsageError(f"{handler.subject}: the test gives no {name!r}")
    return Writer(subject=f"input {name!r} of {handler.subject}", adapter=ANYTHING).write(given[name])
