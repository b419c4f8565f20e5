"""Gives back what dead workers left behind: at once when a peer is found dead, and slowly for everything else."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from flowworker.database.records import Peer
from flowworker.errors import AccessError, DatabaseUnavailableError
from flowworker.runtime.loops.cadence import Uniform
from flowworker.runtime.service import Crash, Service
from flowworker.runtime.source import Recovery, Source
from flowworker.telemetry.events import WorkerInfo, WorkerLost
from flowworker.telemetry.stream import EventStream

logger = logging.getLogger(__name__)

SWEEP_INTERVAL = (45.0, 75.0)
"""Seconds between two passes when nobody is found dead; random within, so that a fleet takes turns."""


class Rescuer(Service):
    """The loop that recovers. Several workers may find the same peer dead: the database lets one act."""

    def __init__(
        self, *, source: Source, events: EventStream, info: WorkerInfo, on_returned: Callable[[], None],
        on_crash: Crash, uniform: Uniform = random.uniform,
    ) -> None:  # fmt: skip
        """Wire it up.

        Args:
            source: what is recovered.
            events: told about each peer that is marked lost.
            info: which worker this is.
            on_returned: called when tasks became startable again.
            on_crash: told when the loop ends by an error.
            uniform: spreads the passes.
        """
        super().__init__(f"rescuer of {info.worker_name}", on_crash)
        self._source = source
        self._events = events
        self._info = info
        self._on_returned = on_returned
        self._uniform = uniform
        self._dead: Mapping[UUID, Peer] = {}
        self._asked = asyncio.Event()

    def found_dead(self, peers: Sequence[Peer]) -> None:
        """These peers are dead, as of the last beat."""
        self._dead = {peer.worker_id: peer for peer in peers}
        if peers:
            self._asked.set()

    def sweep_soon(self) -> None:
        """Do a pass without waiting for its time: somebody has left."""
        self._asked.set()

    async def _run(self) -> None:
        while True:
            self._asked.clear()
            await self._pass()
            try:
                async with asyncio.timeout(self._uniform(*SWEEP_INTERVAL)):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def _pass(self) -> None:
        try:
            recovery = await self._source.recover(tuple(self._dead.values()))
        except (DatabaseUnavailableError, AccessError) as error:
            logger.debug("%s could not recover, the next beat or pass tries again: %s", self._info.worker_name, error)
            return
        self._tell(recovery)
        if recovery.released or recovery.failed or recovery.archived:
            self._on_returned()

    def _tell(self, recovery: Recovery) -> None:
        for note in recovery.notes:
            logger.info("%s: %s", self._info.worker_name, note)
        for worker_id in recovery.lost:
            self._events.emit(
                WorkerLost(
                    worker=self._info,
                    lost_worker_id=worker_id,
                    released=recovery.released,
                    failed=recovery.failed,
                )
            )
