"""A flow whose handler wants a large input, for a worker in a process of its own."""

from typing import Any

from flowworker.definition.context import TaskContext
from flowworker.definition.flow import Flow

large = Flow("large", max_attempts=1, timeout=120)
apart = Flow("apart", max_attempts=1, timeout=120)


@large.step
async def twice(value: dict[str, Any], context: TaskContext) -> int:
    """Take the run's input as the claim brings it, and as it is loaded and remembered for all tasks of a run."""
    return len(value["text"]) + len((await context.flow_input())["text"])


@apart.step(run_in="process")
def echo(value: dict[str, Any]) -> dict[str, Any]:
    """Give the run's input back, from a child process."""
    return value
