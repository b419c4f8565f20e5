"""A queue of keys: each is worked on by one round at a time, as often as needed and no more.

A key that is added while it waits is there once; one that is added while its round runs gets another round after it. A
round says when the next one is due; one that raises is tried again after a growing, random pause, longer where its
error asks for that, and during the pause nothing can make the key hurry. The random part keeps many keys that failed
together from coming back together.

Keys belong to groups, which share the rounds fairly: neither many changes in one namespace nor a policy that lets its
writes take long delays another.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from flowworker_operator.fair_queue import FairQueue

K = TypeVar("K", bound=Hashable)

PARALLEL = 32
"""Rounds at once, half of which one group gets: most of a round is waiting for the API server."""
LONGEST_ROUND = 120.0
"""Seconds after which a round is cut short and counts as failed. Each of its requests has a deadline of its own."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
"""Seconds between two tries of a key that fails, so also the longest wait once the reason of the failure has gone,
unless an error has asked for more."""
LONGEST_ASKED = 10.0
"""Seconds that an error may add by asking for them."""


@dataclass(slots=True)
class _Entry:
    running_since: float | None = None
    waiting_since: float | None = None
    timer: asyncio.TimerHandle | None = None
    due: float = 0.0
    """Time of the timer."""
    failures: int = 0
    paused_until: float = 0.0


class WorkQueue(Generic[K]):
    """Runs rounds for keys until stopped; belongs to one event loop."""

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        *,
        random: Callable[[], float],
        clock: Callable[[], float],
        group: Callable[[K], Hashable],
        on_error: Callable[[K, Exception], None],
        least_pause: Callable[[Exception], float],
        parallel: int = PARALLEL,
    ) -> None:
        """Nothing runs before `run`.

        Args:
            work: one round; answers in how many seconds the next one is due, or None when the key is done with.
            random: numbers from 0 to 1.
            clock: seconds of a monotonic clock.
            group: which keys share rounds fairly with those of others.
            on_error: called with the key and the error of every round that raised.
            least_pause: seconds that an error asks to wait.
            parallel: rounds at once.
        """
        self._work = work
        self._random = random
        self._clock = clock
        self._group = group
        self._on_error = on_error
        self._least_pause = least_pause
        self._entries: dict[K, _Entry] = {}
        self._waiting: FairQueue[Hashable, K] = FairQueue(parallel)
        self._rounds: asyncio.TaskGroup | None = None
        """Those that run; None when none may begin."""

    def add(self, key: K) -> None:
        """Ask for a round as soon as possible."""
        entry, now = self._entry(key), self._clock()
        if now < entry.paused_until:
            return  # the timer of the pause is set
        self._unset(entry)
        if entry.waiting_since is None:
            entry.waiting_since = now
            if entry.running_since is None:
                self._let_wait(key)

    def after(self, key: K, seconds: float) -> None:
        """Ask for a round in some seconds, unless one comes sooner."""
        entry, due = self._entry(key), self._clock() + seconds
        if entry.waiting_since is not None or (entry.timer is not None and entry.due <= due):
            return
        self._unset(entry)
        entry.due = due
        entry.timer = asyncio.get_running_loop().call_later(seconds, self._ring, key)

    @property
    def depth(self) -> int:
        """Keys that wait for their round."""
        return sum(entry.waiting_since is not None for entry in self._entries.values())

    @property
    def stuck_for(self) -> float:
        """Seconds that the longest of the rounds which run has taken; 0 when none runs.

        What waits does not count: many keys of one group may wait for long, which is no fault of ours.
        """
        began = (entry.running_since for entry in self._entries.values() if entry.running_since is not None)
        return max(0.0, self._clock() - min(began, default=self._clock()))

    async def run(self) -> None:
        """Work until cancelled; rounds that are under way are cancelled, too."""
        try:
            async with asyncio.TaskGroup() as rounds:
                await self._let_begin(rounds)
        finally:
            for entry in self._entries.values():
                self._unset(entry)

    async def _let_begin(self, rounds: asyncio.TaskGroup) -> None:
        self._rounds = rounds
        try:
            self._begin_next()
            await asyncio.Event().wait()
        finally:
            self._rounds = None

    def _let_wait(self, key: K) -> None:
        self._waiting.put(self._group(key), key)
        self._begin_next()

    def _begin_next(self) -> None:
        while self._rounds is not None and (taken := self._waiting.take()) is not None:
            group, key = taken
            entry = self._entry(key)
            entry.waiting_since, entry.running_since = None, self._clock()
            self._rounds.create_task(self._serve(group, key, entry))

    async def _serve(self, group: Hashable, key: K, entry: _Entry) -> None:
        next_in = await self._round(key, entry)
        entry.running_since = None
        if entry.waiting_since is not None:
            self._again(key, entry)
        elif next_in is not None:
            self.after(key, next_in)
        elif entry.timer is None:
            self._entries.pop(key, None)
        self._waiting.release(group)
        self._begin_next()

    async def _round(self, key: K, entry: _Entry) -> float | None:
        try:
            async with asyncio.timeout(LONGEST_ROUND):
                next_in = await self._work(key)
        except Exception as error:  # noqa: BLE001 - whatever a round raises, the others go on
            with contextlib.suppress(Exception):
                self._on_error(key, error)
            return self._pause(entry, at_least=min(self._least_pause(error), LONGEST_ASKED))
        entry.failures, entry.paused_until = 0, 0.0
        return next_in

    def _pause(self, entry: _Entry, *, at_least: float) -> float:
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(entry.failures, 16))
        pause = at_least + longest * (0.5 + self._random() / 2)
        entry.failures += 1
        entry.paused_until = self._clock() + pause
        return pause

    def _again(self, key: K, entry: _Entry) -> None:
        """Give a key that was added during its round another one: at once, or after its pause."""
        pause = entry.paused_until - self._clock()
        if pause <= 0:
            self._let_wait(key)
            return
        entry.waiting_since = None
        self.after(key, pause)

    def _ring(self, key: K) -> None:
        entry = self._entry(key)
        entry.timer, entry.paused_until = None, 0.0
        self.add(key)

    def _entry(self, key: K) -> _Entry:
        return self._entries.setdefault(key, _Entry())

    @staticmethod
    def _unset(entry: _Entry) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
