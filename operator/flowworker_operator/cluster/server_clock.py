"""What time it is by the API server, which stamps the objects that ages are counted from.

The clock of our own machine may be wrong by hours, and every new revision would be overdue at once. The header `Date`
of each answer has the server's time to the second; between answers a monotonic clock goes on from there.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

TOLERANCE = 2.0
"""Seconds by which answers may differ for their way and for the second that the header is cut to."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ServerClock:
    """The clock of the API server; before its first answer, our own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], datetime] = _utc_now) -> None:
        """Prepare.

        Args:
            clock: monotonic seconds.
            wall: our own time of day.
        """
        self._clock = clock
        self._wall = wall
        self._epoch: datetime | None = None
        """What the server's time was when our monotonic clock said 0."""

    def now(self) -> datetime:
        """The time, with its zone."""
        return self._wall() if self._epoch is None else self._epoch + timedelta(seconds=self._clock())

    def observe(self, date: str | None) -> None:
        """Take in the header `Date` of an answer."""
        with suppress(ValueError, TypeError):
            epoch = parsedate_to_datetime(date or "").astimezone(UTC) - timedelta(seconds=self._clock())
            if self._epoch is None or abs((epoch - self._epoch).total_seconds()) > TOLERANCE:
                self._epoch = epoch
