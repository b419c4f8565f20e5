"""Tools for people who test their flows and queues; the fixture `flow_db` comes with the pytest plugin.

Everything is loaded on first use, because the plugin is imported by every pytest run in an environment that has this
package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowworker.testing.contexts import task_context as task_context
    from flowworker.testing.flows import run_flow as run_flow
    from flowworker.testing.flows import run_flow_async as run_flow_async
    from flowworker.testing.postgres import FlowDatabase as FlowDatabase
    from flowworker.testing.queues import run_queue as run_queue
    from flowworker.testing.queues import run_queue_async as run_queue_async
    from flowworker.testing.results import Attempt as Attempt
    from flowworker.testing.results import FlowResult as FlowResult
    from flowworker.testing.results import JobResult as JobResult
    from flowworker.testing.steps import run_job as run_job
    from flowworker.testing.steps import run_job_async as run_job_async
    from flowworker.testing.steps import run_step as run_step
    from flowworker.testing.steps import run_step_async as run_step_async

_HOMES = {
    "Attempt": "results",
    "FlowDatabase": "postgres",
    "FlowResult": "results",
    "JobResult": "results",
    "run_flow": "flows",
    "run_flow_async": "flows",
    "run_job": "steps",
    "run_job_async": "steps",
    "run_queue": "queues",
    "run_queue_async": "queues",
    "run_step": "steps",
    "run_step_async": "steps",
    "task_context": "contexts",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
