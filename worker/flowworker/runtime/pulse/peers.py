"""Who is dead. Pure: a fold over what each successful heartbeat of our own has brought.

A peer is dead when its beat has not changed for `DEATH_AFTER` seconds of our own monotonic clock, all of which our own
heartbeats succeeded. Beats are compared for equality only, so no clock but our own matters, and only time between two
successes that came in regular order counts: an outage, a failover, a frozen observer or a whole machine that slept
start the count anew for everybody. A row that is missing is unknown, never dead.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from flowworker.database.records import Peer

DEATH_AFTER = 10.0
"""Seconds without a change of its beat after which a peer is dead."""

REGULAR_GAP = 4.5
"""Longest pause between two of our own heartbeats, in seconds, that still counts as regular order."""

SETTLED = frozenset({"stopped"})
"""States that need no judgement: such a worker gave back everything itself."""

LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A beat, and for how long it has not changed."""

    beat: datetime
    unchanged: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Everything an observer remembers."""

    last_success: float | None = None
    """Monotonic seconds of our own last successful heartbeat; None after a failure."""
    sightings: Mapping[UUID, Sighting] = field(default_factory=dict[UUID, Sighting])


def failed(_: Watch) -> Watch:
    """Our own heartbeat failed: whatever we saw before proves nothing."""
    return Watch()


def succeeded(watch: Watch, now: float, peers: Iterable[Peer]) -> Watch:
    """Our own heartbeat succeeded at monotonic `now` and brought these peers."""
    gap = None if watch.last_success is None else now - watch.last_success
    regular = gap is not None and 0 <= gap <= REGULAR_GAP
    return Watch(
        last_success=now,
        sightings={
            peer.worker_id: _sight(watch.sightings.get(peer.worker_id) if regular else None, peer, gap or 0.0)
            for peer in peers
        },
    )


def dead_peers(watch: Watch, peers: Iterable[Peer], *, boot_id: UUID, pod_uid: str | None) -> Sequence[Peer]:
    """Those of the peers that are dead: silent for too long, marked lost, or our own container's predecessor."""
    return tuple(
        peer
        for peer in peers
        if peer.state not in SETTLED
        and (
            peer.state == LOST
            or _is_predecessor(peer, boot_id=boot_id, pod_uid=pod_uid)
            or _is_silent(watch.sightings.get(peer.worker_id))
        )
    )


def _sight(before: Sighting | None, peer: Peer, gap: float) -> Sighting:
    if before is None or before.beat != peer.beat:
        return Sighting(beat=peer.beat, unchanged=0.0)
    return Sighting(beat=peer.beat, unchanged=before.unchanged + gap)


def _is_silent(sighting: Sighting | None) -> bool:
    return sighting is not None and sighting.unchanged >= DEATH_AFTER


def _is_predecessor(peer: Peer, *, boot_id: UUID, pod_uid: str | None) -> bool:
    return pod_uid is not None and peer.pod_uid == pod_uid and peer.boot_id != boot_id
