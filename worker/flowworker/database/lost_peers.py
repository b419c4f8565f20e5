"""Marks dead peers lost, and gives one whose row was locked the time for a heartbeat first.

Another program may lock the row of a living worker, which then looks silent. It tries its heartbeat every half second,
so a peer that looks in the moment after the lock would often be quicker, and declare the living one dead.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from flowworker.database.connection import Connection
from flowworker.database.records import Peer
from flowworker.database.stranded import mark_lost

GRACE_AFTER_LOCK = 2.0
"""Seconds for which a row that was found locked must have been free before its worker may be marked lost."""

MOST = 1000
"""Locked rows that are remembered."""

Silence: TypeAlias = tuple[UUID, datetime]
"""A worker and its last heartbeat."""


class LostPeers:
    """As one observer sees them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet.

        Args:
            clock: monotonic seconds.
        """
        self._clock = clock
        self._free_since: dict[Silence, float] = {}
        """Of rows that were locked; infinite while they are."""

    async def mark(self, connection: Connection, slug: str, dead: Collection[Peer]) -> Sequence[UUID]:
        """Mark peers of a flow or queue lost whose beat is still the one given; returns those that were."""
        if not dead:
            return []
        now = self._clock()
        spared = {peer.worker_id for peer in dead if now - self._since(peer) < GRACE_AFTER_LOCK}
        found = await mark_lost(connection, slug, dead, spared=spared)
        for peer in dead:
            if peer.worker_id in found.locked:
                self._free_since[_silence(peer)] = math.inf
            elif peer.worker_id in found.free and self._since(peer) == math.inf:
                self._free_since[_silence(peer)] = now
        self._forget(len(self._free_since) - MOST)
        return found.lost

    def _since(self, peer: Peer) -> float:
        """Since when a peer's row is known to be free; it always was where it was never found locked."""
        return self._free_since.get(_silence(peer), -math.inf)

    def _forget(self, number: int) -> None:
        for silence in list(self._free_since)[: max(0, number)]:
            del self._free_since[silence]


def _silence(peer: Peer) -> Silence:
    return peer.worker_id, peer.beat
