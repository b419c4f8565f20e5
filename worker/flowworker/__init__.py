"""Workers for pgflow flows and pgmq queues: everything a user imports.

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowworker.client import Client
    from flowworker.definition.codec import InputError, OutputError
    from flowworker.definition.context import TaskContext
    from flowworker.definition.flow import Flow
    from flowworker.definition.job import Job
    from flowworker.definition.json_text import JsonText
    from flowworker.definition.outcomes import Fail, Retry
    from flowworker.definition.queue import Queue
    from flowworker.definition.step import Step
    from flowworker.errors import DefinitionError, FlowWorkerError
    from flowworker.runtime.pool import Restart, WorkerPool
    from flowworker.runtime.worker import Worker
    from flowworker.runtime.workload import JobRun
    from flowworker.telemetry.stream import EventStream

__all__ = [
    "Client",
    "DefinitionError",
    "EventStream",
    "Fail",
    "Flow",
    "FlowWorkerError",
    "InputError",
    "Job",
    "JobRun",
    "JsonText",
    "OutputError",
    "Queue",
    "Restart",
    "Retry",
    "Step",
    "TaskContext",
    "Worker",
    "WorkerPool",
]

_HOMES = {
    "Client": "flowworker.client",
    "DefinitionError": "flowworker.errors",
    "EventStream": "flowworker.telemetry.stream",
    "Fail": "flowworker.definition.outcomes",
    "Flow": "flowworker.definition.flow",
    "FlowWorkerError": "flowworker.errors",
    "InputError": "flowworker.definition.codec",
    "Job": "flowworker.definition.job",
    "JobRun": "flowworker.runtime.workload",
    "JsonText": "flowworker.definition.json_text",
    "OutputError": "flowworker.definition.codec",
    "Queue": "flowworker.definition.queue",
    "Restart": "flowworker.runtime.pool",
    "Retry": "flowworker.definition.outcomes",
    "Step": "flowworker.definition.step",
    "TaskContext": "flowworker.definition.context",
    "Worker": "flowworker.runtime.worker",
    "WorkerPool": "flowworker.runtime.pool",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
