"""When the poller looks again: whichever comes first of a nudge, a due message and the cadence's pause.

However often the worker is woken, there is exactly one timer: `sleep` computes one deadline, and hints only move it.

With `notify`, pgmq announces inserts, but not every one: its throttle has no trailing edge, delayed messages and
retries are never announced, and after a crash of the server the announcements may stop for good. Hence a trailing
poll a little after each announcement, a timer for the earliest message that becomes visible later, and a slow fallback.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from flowworker.worker_options import Strategy

Uniform = Callable[[float, float], float]
"""A random number between two bounds, as `random.uniform` gives."""

NOTIFY_THROTTLE = 0.25
"""Seconds for which pgmq stays silent after an announcement, by default."""

TRAILING_DELAY = (NOTIFY_THROTTLE + 0.02, NOTIFY_THROTTLE + 0.1)
"""When the trailing poll comes; random within, so that a fleet does not poll in step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalState:
    """What `Worker.state()` shows of the wake-up."""

    strategy: Strategy
    """What was asked for."""
    listening: bool
    """Announcements of inserts arrive."""
    degraded: str | None
    """Why `notify` polls instead, and the command that changes it; None when all is as asked."""
    current_interval: float
    """Seconds of the pause now under way, or of the last one."""
    min_interval: float
    max_interval: float
    next_poll_in: float | None
    """Seconds until the timer fires; None while no pause is under way."""
    fallback_interval: float | None
    """Seconds between polls when no announcement arrives; None for pure polling."""


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


class Wakeup:
    """The poller's sleep, and everything that ends it early."""

    def __init__(
        self, *, strategy: Strategy, polling: Adaptive | Fixed, fallback: float | None,
        clock: Callable[[], float], uniform: Uniform,
    ) -> None:  # fmt: skip
        """Begin as if not listening.

        Args:
            strategy: what was asked for.
            polling: the cadence while no announcements arrive.
            fallback: the pause while they do; None keeps `polling`.
            clock: monotonic seconds.
            uniform: source of jitter.
        """
        self._strategy = strategy
        self._polling = polling
        self._fallback = Fixed(fallback) if fallback is not None else None
        self._clock = clock
        self._uniform = uniform
        self._listening = False
        self._degraded: str | None = None
        self._nudged = False
        self._due = math.inf
        self._trailing = math.inf
        self._pause_ends: float | None = None
        self._pause = polling.minimum
        self._changed = asyncio.Event()

    @property
    def wants_due(self) -> bool:
        """Whether the pause is so long that the earliest due message should be asked for."""
        return self._cadence is self._fallback

    def nudge(self) -> None:
        """Poll at once: there is, or may be, work."""
        self._polling.reset()
        self._nudged = True
        self._changed.set()

    def announced(self) -> None:
        """An insert was announced: poll at once, and once more when the throttle is over."""
        self.nudge()
        self._trail()

    def due_in(self, seconds: float) -> None:
        """Sleep no longer than this."""
        due = self._clock() + max(0.0, seconds)
        if due < self._due:
            self._due = due
            self._changed.set()

    def listen_state(self, *, listening: bool, degraded: str | None) -> None:
        """Whether announcements arrive. Poll at once, and again: one that was missed may still throttle the next."""
        self._listening = listening
        self._degraded = degraded
        self.nudge()
        if listening:
            self._trail()

    async def sleep(self, *, found: bool) -> None:
        """Return when it is time to poll again, after a poll that found something or nothing."""
        self._pause = self._cadence.pause(found=found)
        self._pause_ends = self._clock() + self._pause
        try:
            while not self._nudged and (remaining := self._deadline() - self._clock()) > 0:
                await self._wait(remaining)
        finally:
            self._nudged = False
            self._pause_ends = None
            if self._due <= self._clock():
                self._due = math.inf
            if self._trailing <= self._clock():
                self._trailing = math.inf

    def state(self) -> SignalState:
        """What to show."""
        cadence = self._cadence
        ends = self._deadline()
        return SignalState(
            strategy=self._strategy,
            listening=self._listening,
            degraded=self._degraded,
            current_interval=self._pause,
            min_interval=cadence.minimum,
            max_interval=cadence.maximum,
            next_poll_in=None if self._pause_ends is None else max(0.0, ends - self._clock()),
            fallback_interval=None if self._fallback is None else self._fallback.interval,
        )

    @property
    def _cadence(self) -> Cadence:
        return self._fallback if self._listening and self._fallback is not None else self._polling

    def _deadline(self) -> float:
        hint = min(self._due, self._trailing)
        return hint if self._pause_ends is None else min(self._pause_ends, hint)

    def _trail(self) -> None:
        """Poll when the throttle of the latest announcement is over; an earlier one's end would leave a gap."""
        self._trailing = self._clock() + self._uniform(*TRAILING_DELAY)
        self._changed.set()

    async def _wait(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
