"""The right to act: leadership, and knowing the cluster as it is since then."""

import asyncio
from collections.abc import Awaitable, Callable

from flowworker_operator.cluster.leadership import Leadership

LOOK_EVERY = 0.25
"""Seconds between two looks whether we still lead; only to notice a change, for every write looks by itself."""
TRY_AGAIN = 1.0


class LeaderGate:
    """Says whether this process may write.

    A leader that was frozen may have led, lost and regained the lease between two looks: the number of times the lease
    changed hands shows it.
    """

    def __init__(
        self, leadership: Leadership, refresh: Callable[[], Awaitable[None]], able: Callable[[], bool]
    ) -> None:
        """Prepare.

        Args:
            leadership: of this process.
            refresh: reads the cluster before the first write.
            able: whether enough of it could be read to do anything.
        """
        self._leadership = leadership
        self._refresh = refresh
        self._able = able
        self._since: int | None = None
        """What number of changes of hands the store was refreshed at."""

    @property
    def acting(self) -> bool:
        """Whether we may write at this very moment."""
        return self._leadership.held and self._since == self._leadership.transitions and self._able()

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
        await self._refresh()
        if self._able():
            self._since = transitions
        else:
            await asyncio.sleep(TRY_AGAIN)
