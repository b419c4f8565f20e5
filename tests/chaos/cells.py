"""The cells of the fault matrix: which connection of a worker is disturbed, how, while it serves what. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from random import Random

from testkit.support.history import Fault, Nanoseconds

LEASES_LAST = 8.0
"""Seconds for which a job is surely owned without being extended: its lease is of 15 s, and may be two beats old."""

BANDWIDTH = 2_000_000.0
"""Bytes a second."""

LATENCY = 0.1
"""Seconds in each direction."""


class Lane(StrEnum):
    """What a connection is for."""

    CLAIM = "claim"
    FINISH = "finish"
    BEAT = "beat"
    LISTEN = "listen"


class Disturbance(StrEnum):
    """What befalls it, or the statements on it."""

    CUT = "cut"
    BLACK_HOLE = "black hole"
    LATENCY = "latency"
    BANDWIDTH = "bandwidth"
    LOCK = "lock"
    CANCEL = "cancel"


class Kind(StrEnum):
    """What the worker serves, and what the lock is about."""

    FLOW = "flow"
    QUEUE = "queue"


APPLICATIONS = {
    Lane.CLAIM: "flowworker claim",
    Lane.FINISH: "flowworker finish",
    Lane.BEAT: "flowworker beat",
    Lane.LISTEN: "flowworker pulse",
}
"""Application names of the connections."""

SEVERED = frozenset({Disturbance.CUT, Disturbance.BLACK_HOLE})
NARROW = frozenset({Disturbance.LATENCY, Disturbance.BANDWIDTH, Disturbance.CANCEL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One fault."""

    lane: Lane
    disturbance: Disturbance
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind} {self.lane} {self.disturbance}"

    @property
    def application(self) -> str:
        """Name of the disturbed connection."""
        return APPLICATIONS[self.lane]

    @property
    def spares_neighbours(self) -> bool:
        """Whether what the disturbed worker serves besides, and alone, must keep its rate.

        A process that can claim nothing, write nothing or cannot beat serves nothing; its peers do.
        """
        return self.disturbance in NARROW or self.lane is Lane.LISTEN or self._is_lock_of_the_workload

    @property
    def _is_lock_of_the_workload(self) -> bool:
        return self.disturbance is Disturbance.LOCK and self.lane is not Lane.BEAT

    def excuse(self, worker: str, began: Nanoseconds, ended: Nanoseconds) -> Fault | None:
        """What this cell may do to the history of its disturbed worker; None: nothing at all.

        Beats that cannot arrive get their worker declared lost, and only by that may its work run twice; not where only
        its row is locked, which peers see. A lease that cannot be extended lapses.
        """
        seconds = (ended - began) / 1e9
        severed = self.disturbance in SEVERED
        if self.lane is Lane.BEAT and severed:
            return Fault(
                name=str(self), began=began, ended=ended, workers=frozenset({worker}), silences=True, only_by_death=True
            )
        lease_lapses = self._is_lock_of_the_workload or (self.lane is Lane.LISTEN and severed)
        if self.kind is Kind.QUEUE and lease_lapses and seconds > LEASES_LAST:
            workers = None if self.disturbance is Disturbance.LOCK else frozenset({worker})
            return Fault(name=str(self), began=began, ended=ended, workers=workers, silences=False)
        return None


ALL: Sequence[Cell] = tuple(
    Cell(lane=lane, disturbance=disturbance, kind=kind) for lane, disturbance, kind in product(Lane, Disturbance, Kind)
)


def sample(seed: int) -> Sequence[Cell]:
    """Half of them: each fault of each connection once, with a flow or a queue by chance."""
    chance = Random(seed)
    chosen = {(lane, disturbance): chance.choice(tuple(Kind)) for lane, disturbance in product(Lane, Disturbance)}
    return tuple(cell for cell in ALL if chosen[cell.lane, cell.disturbance] is cell.kind)
