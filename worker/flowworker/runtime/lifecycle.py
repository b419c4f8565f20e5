"""The life cycle of a worker: its states, the moves between them, and which one follows from its row in the database.

    created → starting → running ⇄ draining → stopping → stopped
                 │  └───────────────▲                       ▲
                 └──────────────────────────────────────────┘

A stopping worker drains first, so `running → stopping` does not exist. `drained` is no state of its own: it is
draining with nothing in flight.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from flowworker.database.heartbeat import OwnRow
from flowworker.errors import LifecycleError
from flowworker.worker_options import WhenDrained


class Lifecycle(StrEnum):
    """Where a worker stands."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"


MOVES: Mapping[Lifecycle, frozenset[Lifecycle]] = {
    Lifecycle.CREATED: frozenset({Lifecycle.STARTING}),
    Lifecycle.STARTING: frozenset({Lifecycle.RUNNING, Lifecycle.DRAINING, Lifecycle.STOPPED}),
    Lifecycle.RUNNING: frozenset({Lifecycle.DRAINING}),
    Lifecycle.DRAINING: frozenset({Lifecycle.RUNNING, Lifecycle.STOPPING}),
    Lifecycle.STOPPING: frozenset({Lifecycle.STOPPED}),
    Lifecycle.STOPPED: frozenset(),
}
"""From each state to the states that may follow it."""


class LifecycleMachine:
    """Holds the current state and refuses moves that do not exist."""

    def __init__(self, on_change: Callable[[Lifecycle, Lifecycle, str], None]) -> None:
        """Take what to call after each move: the state before, the state now, the reason."""
        self._on_change = on_change
        self._current = Lifecycle.CREATED

    @property
    def current(self) -> Lifecycle:
        """The state now."""
        return self._current

    def move(self, target: Lifecycle, reason: str) -> None:
        """Go to `target`; going where we are already is no move and no error.

        Raises:
            LifecycleError: there is no such move.
        """
        previous = self._current
        if target is previous:
            return
        if target not in MOVES[previous]:
            raise LifecycleError(f"a worker cannot go from {previous} to {target} (asked for: {reason})")
        self._current = target
        self._on_change(previous, target, reason)


class Move(Enum):
    """The next move."""

    STAY = auto()
    DRAIN = auto()
    """Claim nothing more."""
    RESUME = auto()
    """Claim again."""
    END = auto()
    """Stop: it was asked to drain, and nothing is in flight."""
    REJOIN = auto()
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
        return Decision(move=Move.REJOIN, reason="declared dead by a peer or the operator")
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
