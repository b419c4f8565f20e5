"""The life cycle of a worker: which states there are, and which moves between them exist.

    created → starting → running ⇄ draining → stopping → stopped
                 │  └───────────────▲                       ▲
                 └──────────────────────────────────────────┘

A stopping worker drains first, so `running → stopping` does not exist. `drained` is no state of its own: it is
draining with nothing in flight.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from flowworker.errors import LifecycleError


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
