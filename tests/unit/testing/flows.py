"""Flows that a child process must be able to import."""

from flowworker import Flow

process_flow = Flow("processes")


@process_flow.map(run_in="process")
def square(number: int) -> int:
    return number * number
