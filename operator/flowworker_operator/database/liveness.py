"""Which workers died without a word. Pure: a fold over what each answer of the database has shown.

A worker is dead when its beat has not changed for `DEATH_AFTER` seconds of our own monotonic clock, all of which the
database answered us in regular order. Time counts from the arrival of one answer to the sending of the next question,
so that an answer that was long on its way proves nothing. A failure, a slow answer and an irregular pause (an outage, a
frozen operator, a machine that slept) restart the count for every worker. No wall clock takes part.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from flowworker.database.probe import WorkerRow

DEATH_AFTER = 10.0
"""Seconds without a change of its beat after which a worker is dead."""

REGULAR_GAP = 7.5
"""Longest time between two answers, in seconds, that still counts as regular order."""

SLOW = 2.5
"""Seconds after which an answer is too old to prove anything."""

SUSPICIOUS_AFTER = 4.0
"""Seconds without a change that a living worker, which beats every 3, hardly needs."""

ENDED = frozenset({"stopped", "lost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A beat, and for how long it is known not to have changed."""

    beat: datetime
    unchanged: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Everything remembered from one answer to the next; a failure is followed by a new one."""

    answered: float | None = None
    """Monotonic seconds of the last answer."""
    sightings: Mapping[UUID, Sighting] = field(default_factory=dict[UUID, Sighting])

    @property
    def suspicious(self) -> bool:
        """A worker may have died: it is worth looking more often."""
        return any(sighting.unchanged >= SUSPICIOUS_AFTER for sighting in self.sightings.values())


def observed(watch: Watch, rows: Iterable[WorkerRow], *, sent: float, answered: float) -> Watch:
    """Take in an answer.

    Args:
        watch: what was remembered before.
        rows: the workers it shows.
        sent: monotonic seconds at which the question was sent.
        answered: monotonic seconds at which the answer had arrived.
    """
    credit = None if watch.answered is None or answered - watch.answered > REGULAR_GAP else sent - watch.answered
    trusted = credit is not None and credit >= 0 and answered - sent <= SLOW
    before = watch.sightings if trusted else dict[UUID, Sighting]()
    alive = (row for row in rows if row.state not in ENDED)
    return Watch(
        answered=answered,
        sightings={row.worker_id: _sight(before.get(row.worker_id), row, credit or 0.0) for row in alive},
    )


def silent(watch: Watch, rows: Iterable[WorkerRow]) -> Sequence[WorkerRow]:
    """Those of the workers that are dead."""
    return tuple(row for row in rows if _is_silent(watch.sightings.get(row.worker_id)))


def _sight(before: Sighting | None, row: WorkerRow, credit: float) -> Sighting:
    if before is None or before.beat != row.beat:
        return Sighting(beat=row.beat, unchanged=0.0)
    return Sighting(beat=row.beat, unchanged=before.unchanged + credit)


def _is_silent(sighting: Sighting | None) -> bool:
    return sighting is not None and sighting.unchanged >= DEATH_AFTER
