"""Running a handler in a child process, which finds it again by importing the module that defines it.

What crosses between the processes is plain: names, JSON and a few fields of the context. A script that defines flows
and also runs workers needs the usual `if __name__ == "__main__":` around the latter, because it is imported again.
"""

import asyncio
import importlib
import importlib.util
import logging
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

from flowworker.definition.codec import InputError, OutputError
from flowworker.definition.context import Message, TaskContext
from flowworker.definition.flow import Flow
from flowworker.definition.handler import Handler
from flowworker.definition.job import Job
from flowworker.definition.loading import import_file
from flowworker.definition.outcomes import Fail, Retry
from flowworker.definition.place import HandlerReference
from flowworker.definition.queue import Queue
from flowworker.definition.quoting import summary_of, traceback_of
from flowworker.definition.step import Step
from flowworker.errors import HandlerImportError

_MAIN_IN_CHILD = "__mp_main__"
"""The name under which a child imports a script, so that its `__main__` guard holds; multiprocessing's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildContext:
    """The fields of a `TaskContext` that can be sent to another process."""

    run_id: UUID | None
    step_slug: str
    task_index: int
    attempt: int
    max_attempts: int
    deadline: float
    """`time.monotonic()`, which all processes of a machine share."""
    message: Message
    idempotency_key: str

    @classmethod
    def of(cls, context: TaskContext) -> "ChildContext":
        """What can be sent of a context."""
        return cls(
            run_id=context.run_id,
            step_slug=context.step_slug,
            task_index=context.task_index,
            attempt=context.attempt,
            max_attempts=context.max_attempts,
            deadline=context.deadline,
            message=context.message,
            idempotency_key=context.idempotency_key,
        )


class ChildError(Exception):
    """A handler's exception, as text: the exception itself may not survive the way between processes."""

    def __init__(self, description: str, stacktrace: str) -> None:
        """Take what `traceback` says about it.

        Args:
            description: class and message, as in the last line of a traceback.
            stacktrace: the whole traceback.
        """
        super().__init__(description, stacktrace)
        self.description = description
        self.stacktrace = stacktrace

    def __str__(self) -> str:
        return self.description


def run_reference(
    reference: HandlerReference,
    input: bytes,  # noqa: A002 - pgflow's word
    flow_input: bytes | None,
    context: ChildContext,
) -> bytes:
    """Decode, call and encode, in this process.

    Returns:
        The output as JSON.

    Raises:
        HandlerImportError: the handler is not found here.
        InputError, OutputError, Retry, Fail: as the handler or its types want it.
        ChildError: the handler raised anything else.
    """
    handler = find_handler(reference)
    try:
        arguments = handler.decode(input, flow_input)
        return handler.encode(handler.call(arguments, _context(handler, flow_input, context)))
    except (InputError, OutputError):
        raise
    except Retry as wish:  # made anew, because a subclass may not survive the way between processes
        raise Retry(str(wish), after=wish.after) from wish
    except Fail as wish:
        raise Fail(str(wish)) from wish
    except (Exception, SystemExit) as error:
        raise ChildError(summary_of(error), traceback_of(error, error.__traceback__)) from error


@cache
def find_handler(reference: HandlerReference) -> Handler:
    """Import the module of a reference and take the handler from it.

    In the process that defined it, this shows whether a child would find it.

    Raises:
        HandlerImportError: the module does not import, or defines no such handler at its top level.
    """
    module = _module(reference)
    for value in vars(module).values():
        handler = _handler_in(value, reference)
        if handler is not None:
            return handler
    raise HandlerImportError(
        f"run_in='process': module {reference.module!r} has no {reference} at its top level after an import; "
        "define the flow or queue there, not in a function that only the worker's process calls"
    )


def _module(reference: HandlerReference) -> ModuleType:
    for name in (reference.module, "__main__", _MAIN_IN_CHILD):
        present = sys.modules.get(name)
        if present is not None and getattr(present, "__file__", None) == reference.file:
            return present
    if reference.module in {"__main__", _MAIN_IN_CHILD}:
        return _import_main(reference.file)
    try:
        return importlib.import_module(reference.module)
    except ModuleNotFoundError:
        return import_file(Path(reference.file))


def _import_main(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MAIN_IN_CHILD, file)
    if spec is None or spec.loader is None:
        raise HandlerImportError(f"run_in='process' needs handlers in a file that can be imported; {file!r} is none")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MAIN_IN_CHILD] = module
    spec.loader.exec_module(module)
    return module


def _handler_in(value: object, reference: HandlerReference) -> Handler | None:
    match value:
        case Flow(slug=reference.owner):
            step = value.steps.get(reference.name or "")
            return step.handler if step else None
        case Step(flow_slug=reference.owner, slug=reference.name):
            return value.handler
        case Queue(name=reference.owner):
            job = value.jobs.get(reference.name)
            return job.handler if job else None
        case Job(queue_name=reference.owner, type_name=reference.name):
            return value.handler
        case _:
            return None


def _context(handler: Handler, flow_input: bytes | None, fields: ChildContext) -> TaskContext:
    async def load_flow_input() -> Any:
        if handler.run_input is None or flow_input is None:
            raise RuntimeError("in a child process the run's input is there only for a handler with a parameter for it")
        return handler.run_input.reader.read(flow_input)

    return TaskContext(
        run_id=fields.run_id,
        step_slug=fields.step_slug,
        task_index=fields.task_index,
        attempt=fields.attempt,
        max_attempts=fields.max_attempts,
        deadline=fields.deadline,
        cancelled=_NeverCancelled(),
        message=fields.message,
        logger=logging.LoggerAdapter(
            logging.getLogger("flowworker.handler"),
            {"run_id": fields.run_id, "step_slug": fields.step_slug, "attempt": fields.attempt},
        ),
        idempotency_key=fields.idempotency_key,
        load_flow_input=load_flow_input,
    )


class _NeverCancelled:
    """A child is killed, not asked."""

    def is_set(self) -> bool:
        return False

    async def wait(self) -> object:
        return await asyncio.get_running_loop().create_future()
