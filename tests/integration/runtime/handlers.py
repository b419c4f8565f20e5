"""Handlers that child processes must be able to import."""

import os
import signal
import time

from flowworker.definition.flow import Flow

processes = Flow("processes", max_attempts=1, timeout=2)


@processes.step(run_in="process")
def work(what: str) -> int:
    """Do as the input says."""
    match what:
        case "hang":
            time.sleep(60)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)
        case "raise":
            raise ValueError("from a child")
        case _:
            print("printing does not disturb the wire")
    return os.getpid()
