"""How long to sleep between two polls when nothing wakes the worker earlier. Pure but for the interval it remembers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

Uniform = Callable[[float, float], float]
"""A random number between two bounds, as `random.uniform` gives."""


class Cadence(Protocol):
    """Decides the pause after a poll."""

    @property
    def minimum(self) -> float: ...

    @property
    def maximum(self) -> float: ...

    def pause(self, *, found: bool) -> float:
        """Seconds until the next poll, after one that found something or nothing."""
        ...

    def reset(self) -> None:
        """Be quick again: there was work."""
        ...


@dataclass(slots=True)
class Adaptive:
    """Polling: quick while there is work, slower with every empty poll, with decorrelated jitter."""

    minimum: float
    maximum: float
    uniform: Uniform
    _previous: float = field(init=False)

    def __post_init__(self) -> None:
        self._previous = self.minimum

    def pause(self, *, found: bool) -> float:
        if found:
            self.reset()
        else:
            self._previous = self.uniform(self.minimum, min(3 * self._previous, self.maximum))
        return self._previous

    def reset(self) -> None:
        self._previous = self.minimum


@dataclass(slots=True)
class Fixed:
    """The same pause always: the fallback behind notifications."""

    interval: float

    @property
    def minimum(self) -> float:
        return self.interval

    @property
    def maximum(self) -> float:
        return self.interval

    def pause(self, *, found: bool) -> float:
        return self.interval

    def reset(self) -> None:
        return
