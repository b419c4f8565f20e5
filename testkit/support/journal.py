"""What handlers under test write about themselves: one line per begin and end, in a file that outlives every fault.

A line is appended in one system call, so that it is in the file whatever happens to the process or to any database
afterwards. Times are CLOCK_MONOTONIC, which all processes of a machine share and no clock jump moves.
"""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import orjson

from flowworker.definition.context import TaskContext

FOLDER_VARIABLE = "CHAOS_FOLDER"
NAME_VARIABLE = "CHAOS_NAME"

JOURNAL = "journal.jsonl"
GATES = "gates"

BEGIN, END = "begin", "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line."""

    what: str
    execution: str
    """Unique per execution of a handler."""
    owner: str
    """The run, or the queue of a job."""
    step: str
    index: int
    """The task's index, or the job's message id."""
    attempt: int
    worker: str
    """Name of the worker process."""
    pid: int
    at: int
    """Monotonic nanoseconds."""


def folder() -> Path:
    """Where this scenario's journal and gates are; for processes that run handlers."""
    return Path(os.environ[FOLDER_VARIABLE])


def worker_name() -> str:
    """The name that the test gave to this worker process."""
    return os.environ[NAME_VARIABLE]


class Writer:
    """The journal of one execution."""

    def __init__(self, context: TaskContext) -> None:
        """Name the execution; nothing is written yet."""
        self.execution = uuid4().hex
        self._context = context

    def write(self, what: str) -> None:
        """Append a line."""
        job = self._context.run_id is None
        entry = Entry(
            what=what,
            execution=self.execution,
            owner=self._context.step_slug if job else str(self._context.run_id),
            step=self._context.step_slug,
            index=self._context.message.msg_id if job else self._context.task_index,
            attempt=self._context.attempt,
            worker=worker_name(),
            pid=os.getpid(),
            at=time.monotonic_ns(),
        )
        line = orjson.dumps(asdict(entry)) + b"\n"
        handle = os.open(folder() / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


def read(directory: Path) -> list[Entry]:
    """All whole lines so far: of one that is being written a reader may see a part."""
    path = directory / JOURNAL
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [Entry(**orjson.loads(line)) for line in whole.splitlines()]
