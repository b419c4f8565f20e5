"""The database's clock, read without asking the database each time."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta


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
