"""The right to act: leadership, and knowing the cluster as it is since then."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from flowworker_operator.cluster.errors import ClusterError
from flowworker_operator.cluster.leadership import Leadership

LOOK_EVERY = 0.25
"""Seconds between two looks whether we still lead; only about the news, for every write looks by itself."""
TRY_AGAIN = 1.0

logger = structlog.stdlib.get_logger(__name__)


class Mandate:
    """Says whether this process may write.

    A leader that was frozen may have led, lost and regained the lease between two looks: the number of times the lease
    changed hands tells.
    """

    def __init__(self, leadership: Leadership, refresh: Callable[[], Awaitable[None]]) -> None:
        """Prepare; `refresh` reads the cluster before the first write and may raise `ClusterError`."""
        self._leadership = leadership
        self._refresh = refresh
        self._since: int | None = None
        """What number of changes of hands the store was refreshed at."""

    @property
    def acting(self) -> bool:
        """Whether we may write at this very moment."""
        return self._leadership.held and self._since == self._leadership.transitions

    async def run(self) -> None:
        """Take part until cancelled."""
        while True:
            await self._leadership.wait_held()
            await self._begin()
            while self.acting:  # noqa: ASYNC110 - the lease runs out by itself, with no event
                await asyncio.sleep(LOOK_EVERY)
            self._since = None

    async def _begin(self) -> None:
        transitions = self._leadership.transitions
        try:
            await self._refresh()
        except ClusterError as error:
            logger.warning("cannot read the cluster before acting", error=str(error))
            await asyncio.sleep(TRY_AGAIN)
            return
        self._since = transitions
