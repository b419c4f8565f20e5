"""The rhythm of heartbeats, and what is extended with them. Pure."""

from collections.abc import Iterable, Sequence

from flowworker.runtime.held_tasks import HeldTask

BEAT_INTERVAL = 3.0
"""Seconds between two heartbeats."""

OUTAGE_AFTER = 10.0
"""Seconds without a successful heartbeat after which the leases of jobs may have lapsed."""


def to_extend(held_tasks: Iterable[HeldTask], *, now: float) -> Sequence[HeldTask]:
    """What is held for a beat or longer; a younger lease lasts beyond the next beat anyway."""
    return tuple(held_task for held_task in held_tasks if now - held_task.claimed_at >= BEAT_INTERVAL)
