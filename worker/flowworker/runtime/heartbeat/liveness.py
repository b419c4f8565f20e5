"""Who is dead, judged by our own heartbeats. Pure: a fold over them.

A peer is dead that has not reported since a heartbeat of ours that lies `DEATH_AFTER` seconds back on our own monotonic
clock. The moments are compared by the database's clock alone, the time between them passes on ours. It counts only
while our own heartbeats succeed: a failure, a frozen observer, a clock of the database that was set, or another server
start the count anew. Irregular heartbeats make it longer, and latency does not matter. A missing row is unknown, never
dead.

This is how peers judge; `database/lost_peers.py` then marks the worker lost. The operator marks one lost as well, when
its pod has gone (`departures.py` there) or its row stands still (`database/liveness.py` there), and a process that
starts does it with those of its own predecessor (`database/sql/workers/mark_gone.sql`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

DEATH_AFTER = 10.0
"""Seconds without a heartbeat after which a peer is dead."""

QUIET_AFTER = 6.0
"""Seconds without a heartbeat after which a peer in rhythm has missed one. Our next heartbeat then comes as soon as the
peer can be dead, not with our own rhythm, which would find it up to a whole interval later."""

LEAST_BEATS = 3
"""Heartbeats of our own that must have succeeded meanwhile."""

GAPS = 3
"""Times our own longest pause that a peer must have been silent: where we are slow, so may others be."""

FROZEN_AFTER = 15.0
"""Seconds between two heartbeats after which we take ourselves for frozen."""

CLOCK_TOLERANCE = 1.0
"""Seconds by which the database's clock may move otherwise than ours between two heartbeats."""

REMEMBERED = 64
"""Heartbeats kept: more than any judgement needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """A heartbeat of our own that succeeded."""

    sent: float
    """Monotonic seconds."""
    received: float
    at: datetime
    """The database's clock, somewhere between the two."""
    server: datetime
    """When the server started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Everything an observer remembers: its successes in regular order, oldest first."""

    successes: Sequence[Success] = ()


def failed(_: Watch) -> Watch:
    """Our own heartbeat failed: what we saw before proves nothing."""
    return Watch()


def succeeded(watch: Watch, success: Success) -> Watch:
    """Our own heartbeat succeeded."""
    if not watch.successes or not _in_order(watch.successes[-1], success):
        return Watch(successes=(success,))
    return Watch(successes=(*watch.successes, success)[-REMEMBERED:])


def watched_for(watch: Watch, now: float) -> float:
    """Seconds for which our heartbeats have succeeded without a break; 0 where the last one is too long ago."""
    if not watch.successes or now - watch.successes[-1].received > FROZEN_AFTER:
        return 0.0
    return now - watch.successes[0].received


def alive_since(watch: Watch, now: float) -> datetime | None:
    """The database's time since which every living peer has surely reported; None while that is not known.

    Args:
        watch: what we remember.
        now: monotonic seconds at which the heartbeat that asks is sent. Its answer counts only if `succeeded` keeps
            what the watch remembers.
    """
    after, longest_gap = now, 0.0
    for number, success in enumerate(reversed(watch.successes)):
        longest_gap = max(longest_gap, after - success.sent)
        after = success.sent
        if number >= LEAST_BEATS and now - success.received >= max(DEATH_AFTER, GAPS * longest_gap):
            return success.at
    return None


def quiet_since(watch: Watch, now: float) -> datetime | None:
    """The database's time since which every peer in rhythm has reported; None while that is not known.

    It is never before what `alive_since` says: who is dead is quiet, too.

    Args:
        watch: what we remember.
        now: monotonic seconds at which the heartbeat that asks is sent.
    """
    return next((success.at for success in reversed(watch.successes) if now - success.received >= QUIET_AFTER), None)


def dead_at(watch: Watch, heard: datetime) -> float:
    """Monotonic seconds from which a peer is dead whose last heartbeat we know, if it stays silent and we do not.

    Args:
        watch: what we remember.
        heard: the database's time of the peer's last heartbeat.
    """
    later = [success for success in watch.successes if success.at > heard]
    if not later:
        return math.inf
    longest_gap = max((after.sent - before.sent for before, after in pairwise(later)), default=0.0)
    return later[0].received + max(DEATH_AFTER, GAPS * longest_gap)


def _in_order(before: Success, after: Success) -> bool:
    moved = (after.at - before.at).total_seconds()
    shortest, longest = after.sent - before.received, after.received - before.sent
    return (
        before.server == after.server
        and 0 <= after.sent - before.sent <= FROZEN_AFTER
        and shortest - CLOCK_TOLERANCE <= moved <= longest + CLOCK_TOLERANCE
    )
