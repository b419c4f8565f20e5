"""Records that claimed tasks have begun, so that the death of this worker counts as a loss only for those.

The first record after a pause is sent before the first handler runs; while handlers begin again and again, one record
covers many. A record that cannot be written is left to the next one, and to the heartbeat.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from flowworker.runtime.service import Crash, Service
from flowworker.runtime.source import Source

logger = logging.getLogger(__name__)

INTERVAL = 0.25
"""Seconds between two records."""


class StartRecorder(Service):
    """The loop that records."""

    def __init__(self, *, source: Source, name: str, clock: Callable[[], float], on_crash: Crash) -> None:
        """Know of no claim yet.

        Args:
            source: where it is recorded.
            name: the worker's, for messages.
            clock: monotonic seconds.
            on_crash: called when the loop ends by itself.
        """
        super().__init__(f"starts of {name}", on_crash)
        self._source = source
        self._clock = clock
        self._latest: datetime | None = None
        self._recorded: datetime | None = None
        self._changed = asyncio.Event()

    @property
    def latest(self) -> datetime | None:
        """The database's time of the newest claim whose handlers have begun; for the heartbeat."""
        return self._latest

    def note(self, claimed_at: datetime) -> None:
        """The handlers of a claim are about to begin."""
        self._latest = claimed_at
        self._changed.set()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = self._clock()
            await self._record()
            await asyncio.sleep(max(0.0, began + INTERVAL - self._clock()))

    async def _record(self) -> None:
        latest = self._latest
        if latest is None or latest == self._recorded:
            return
        try:
            await self._source.begun(latest)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next claim or beat records it as well
            logger.debug("could not record that handlers have begun: %s", error)
            return
        self._recorded = latest
