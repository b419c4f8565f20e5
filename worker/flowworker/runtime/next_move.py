"""What a worker should do about how it stands in the database. Pure."""

from dataclasses import dataclass
from enum import Enum, auto

from flowworker.database.heartbeat import OwnRow
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.worker_options import WhenDrained


class Move(Enum):
    """The next move."""

    STAY = auto()
    DRAIN = auto()
    """Claim nothing more."""
    RESUME = auto()
    """Claim again."""
    END = auto()
    """Stop: it was asked to drain, and nothing is in flight."""
    REBORN = auto()
    """Drop everything and go on under a new id: a peer or the operator has declared this one dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A move with its reason."""

    move: Move
    reason: str


def decide(own: OwnRow | None, *, lifecycle: Lifecycle, in_flight: int, when_drained: WhenDrained) -> Decision:
    """What follows from the last heartbeat.

    Args:
        own: our row; None when the database did not say.
        lifecycle: where the worker stands; only a running or draining one has duties.
        in_flight: tasks still owned, or about to be by a claim on its way.
        when_drained: what a drain request means once nothing is in flight.
    """
    if own is None or lifecycle not in {Lifecycle.RUNNING, Lifecycle.DRAINING}:
        return Decision(move=Move.STAY, reason="")
    if own.lost:
        return Decision(move=Move.REBORN, reason="declared dead by a peer or the operator")
    wanted = wants_drain(own)
    if wanted is None:
        move = Move.RESUME if lifecycle is Lifecycle.DRAINING else Move.STAY
        return Decision(move=move, reason="the drain request has lapsed" if move is Move.RESUME else "")
    if lifecycle is Lifecycle.RUNNING:
        return Decision(move=Move.DRAIN, reason=wanted)
    if in_flight == 0 and (own.deprecated or when_drained is WhenDrained.EXIT):
        return Decision(move=Move.END, reason=wanted)
    return Decision(move=Move.STAY, reason=wanted)


def wants_drain(own: OwnRow | None) -> str | None:
    """Why the worker shall claim nothing; None when it may."""
    if own is None:
        return None
    if own.deprecated:
        return "deprecated in pgflow.workers"
    return None if own.drain is None else f"asked to drain: {own.drain.reason}"
