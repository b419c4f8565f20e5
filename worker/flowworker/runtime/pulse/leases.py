"""When a worker may claim, and what it extends. Pure."""

import math
from collections.abc import Iterable, Sequence

from flowworker.database.records import SourceKind
from flowworker.runtime.holdings import Holding

BEAT_INTERVAL = 3.0
"""Seconds between two heartbeats."""

OUTAGE_AFTER = 10.0
"""Seconds without a successful heartbeat after which the leases of jobs may have lapsed."""

CLAIM_PAUSE = 6.0
"""Seconds after an outage for which no job is claimed: everybody extends first what they hold."""


def claim_pause(kind: SourceKind, *, now: float, last_beat: float, resumed_at: float | None) -> float:
    """Seconds until claiming is allowed; infinity while the heartbeats fail.

    A job is owned by a lease in its visibility timeout. After an outage all leases have lapsed at once: who claims
    before the owners have extended takes their running jobs. A task of a flow is owned by its row and needs no pause.

    Args:
        kind: flow or queue.
        now: monotonic seconds, as are the others.
        last_beat: the last successful heartbeat.
        resumed_at: the first success after the last outage.
    """
    if kind is SourceKind.FLOW:
        return 0.0
    if now - last_beat > OUTAGE_AFTER:
        return math.inf
    return 0.0 if resumed_at is None else max(0.0, resumed_at + CLAIM_PAUSE - now)


def to_extend(holdings: Iterable[Holding], *, now: float) -> Sequence[Holding]:
    """What is held for a beat or longer; a younger lease lasts beyond the next beat anyway."""
    return tuple(holding for holding in holdings if now - holding.claimed_at >= BEAT_INTERVAL)
