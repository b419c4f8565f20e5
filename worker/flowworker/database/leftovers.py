"""What to do with a message that was read but could not be started.

Every read of such a message costs a row update and a place in the batch, so none of them may come back too soon.
"""

from dataclasses import dataclass
from enum import StrEnum

ENDED_TASK = frozenset({"completed", "failed", "skipped", "cancelled"})
STARTED = "started"

FOREIGN_BACKOFF = 5.0
"""Seconds before a message that belongs to no task is read a second time; doubled with every read."""
FOREIGN_BACKOFF_LIMIT = 3600.0
FOREIGN_READS_BEFORE_WARNING = 3
RUNNING_ELSEWHERE_LIMIT = 60.0
"""Seconds after which a message whose task runs elsewhere is looked at again, at the latest."""


class Reading(StrEnum):
    """Why a message could not be started."""

    ENDED = "ended"
    """Its task or its run has ended: it can never start again."""
    RUNNING = "running"
    """Its task is started, here or elsewhere."""
    FOREIGN = "foreign"
    """No task belongs to it."""
    WAITING = "waiting"
    """A queued task: of a step this process does not serve, or not startable at this moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A message and what the database knows about its task; all None when there is no task."""

    msg_id: int
    read_count: int
    task_status: str | None
    run_status: str | None
    running_for: float | None
    """Seconds since the task was started."""
    timeout: float | None
    """The task's effective timeout in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """Archive the message, or put it off by some seconds, or (neither) leave the visibility the read gave it."""

    reading: Reading
    archive: bool = False
    delay: float | None = None
    warn: bool = False


def treat(leftover: Leftover, *, grace: float) -> Treatment:
    """Decide about one message, following what each state of its task allows.

    Args:
        leftover: the message.
        grace: seconds after the timeout in which its worker may still finish it.
    """
    if leftover.task_status is None:
        delay = min(FOREIGN_BACKOFF * 2.0 ** min(leftover.read_count, 32), FOREIGN_BACKOFF_LIMIT)
        # Each read goes to one worker only: exactly one of the fleet meets this count and warns.
        warn = leftover.read_count == FOREIGN_READS_BEFORE_WARNING
        return Treatment(reading=Reading.FOREIGN, delay=delay, warn=warn)
    if leftover.task_status in ENDED_TASK or leftover.run_status != STARTED:
        return Treatment(reading=Reading.ENDED, archive=True)
    if leftover.task_status == STARTED:
        remaining = (leftover.timeout or 0.0) + grace - (leftover.running_for or 0.0)
        return Treatment(reading=Reading.RUNNING, delay=min(max(remaining, grace), RUNNING_ELSEWHERE_LIMIT))
    return Treatment(reading=Reading.WAITING)
