"""Handlers that a child process must be able to import."""

import os
import signal

from flowworker import Flow

crashing = Flow("crashing", max_attempts=1, timeout=20)


@crashing.step(run_in="process")
def crash(_: int) -> None:
    """Die as a process that is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
