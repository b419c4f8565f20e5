"""The database's clock, read without asking the database each time."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def moment(epoch: float) -> datetime:
    """A time the database gave as seconds since 1970, to the microsecond; the nearest that Python can hold.

    Claims ask for numbers: a timestamp beyond Python's years would make the whole answer unreadable.
    """
    try:
        return datetime.fromtimestamp(epoch, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC) if epoch > 0 else datetime.min.replace(tzinfo=UTC)


class ServerClock:
    """What the database's clock shows now: its last answer, and the time that has passed here since.

    Runs behind by as long as that answer took, never ahead. The worker's wall clock plays no part.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet.

        Args:
            clock: monotonic seconds.
        """
        self._clock = clock
        self._answer: tuple[datetime, float] | None = None

    def set(self, moment: datetime) -> None:
        """The database has just said what time it is."""
        self._answer = moment, self._clock()

    def now(self) -> datetime | None:
        """The time in the database; None before its first answer."""
        if self._answer is None:
            return None
        moment, heard_at = self._answer
        return moment + timedelta(seconds=self._clock() - heard_at)
