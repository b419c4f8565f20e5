"""How much a claim asks for, and on which connection: pure, but for the lane that remembers it.

A claim that takes too long is ended by the server. It is then asked again for half as much on the connection aside,
with more time, until it succeeds or is down to one task; sizes recover with success. So one flow with huge maps, or
behind a lock, never holds up the others of its process. Bytes are bounded as well as counts: by what recent tasks
weighed.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from flowworker.database.connection import Connection, describe
from flowworker.database.faults import REFUSED_VALUES, TIMED_OUT
from flowworker.database.link import Limits, Links
from flowworker.runtime.source import Claim

T = TypeVar("T")

FIRST_COUNT = 32
"""Most tasks of the first claim: nothing is known of their weight yet."""

MOST = 1000
"""Most tasks of one claim."""

BYTES = 4 << 20
"""Bytes of inputs that one claim shall bring; a single task may weigh more."""

FORGET = 0.9
"""How much of the weight remembered is kept by a claim of lighter tasks."""

SLOW = 1.0
"""Seconds after which a successful claim was too large."""

QUICK = 0.5
"""Seconds within which a claim may return to the connection that all share."""

FIRST_PATIENCE = 30.0
"""Seconds a claim may take aside, at first."""

LONGEST_PATIENCE = 120.0

SPARE = 2.0
"""Seconds that a claim may take longer than its limit, until the server has noticed."""

ASIDE_LOCK = 1.0
"""Seconds a claim waits for a lock aside; it is repeated anyway."""

ASIDE_PATIENCE = 3.0
"""Seconds that recovery waits for the connection aside before it takes that of the claims."""

REFUSALS_BEFORE_PARKING = 5
"""Refusals of a single task after which it is put off, so that the rest of the queue goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What is known from the claims so far."""

    count: int = FIRST_COUNT
    """Most tasks of the next claim."""
    weight: float = 0.0
    """Bytes of one task, on the safe side."""
    aside: bool = False
    """The next claim goes to the connection for work in trouble."""
    patience: float = FIRST_PATIENCE
    """Seconds it may take there."""


def size_of(pace: Pace, limit: int) -> int:
    """How many tasks to ask for where `limit` could run."""
    by_weight = limit if pace.weight * limit <= BYTES else int(BYTES / pace.weight)
    return max(1, min(limit, pace.count, by_weight))


def succeeded(pace: Pace, *, asked: int, read: int, size: int, took: float) -> Pace:
    """A claim for `asked` tasks read so many, of so many bytes in all, in so many seconds."""
    weight = max(size / read, pace.weight * FORGET) if read else pace.weight
    count = pace.count
    if took > SLOW:
        count = max(1, asked // 2)
    elif read >= asked:
        count = min(MOST, max(count, 2 * asked))
    aside = pace.aside and took > QUICK
    return Pace(count=count, weight=weight, aside=aside, patience=pace.patience if aside else FIRST_PATIENCE)


def timed_out(pace: Pace, *, asked: int) -> Pace:
    """A claim for `asked` tasks took too long, or met a lock."""
    patience = min(LONGEST_PATIENCE, 2 * pace.patience) if pace.aside else FIRST_PATIENCE
    return replace(pace, count=max(1, asked // 2), aside=True, patience=patience)


def refused(pace: Pace, *, asked: int) -> Pace:
    """The database could not claim one of `asked` tasks."""
    return replace(pace, count=max(1, asked // 2))


class ClaimLane:
    """The claims of one flow or queue, one at a time."""

    def __init__(self, links: Links, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet."""
        self._links = links
        self._clock = clock
        self._refusals = 0
        self._refusal = ""
        self.pace = Pace()

    @property
    def patience(self) -> float:
        """Seconds within which the next claim ends on the server, with some to spare."""
        return SPARE + (self.pace.patience if self.pace.aside else FIRST_PATIENCE)

    @property
    def is_stuck(self) -> bool:
        """A single task at the head of the queue was refused again and again."""
        return self.pace.count == 1 and self._refusals >= REFUSALS_BEFORE_PARKING

    def unstick(self) -> str:
        """Begin anew; returns why the head of the queue was refused."""
        self._refusals = 0
        return self._refusal

    async def run(self, limit: int, work: Callable[[Connection, int], Awaitable[Claim]]) -> Claim:
        """Claim once, at most `limit` tasks.

        Args:
            limit: free slots.
            work: claims, on a connection, at most so many.

        Raises:
            asyncpg.PostgresError: as the work raises it; the next claim will ask for less.
        """
        asked, pace = size_of(self.pace, limit), self.pace

        async def measured(connection: Connection) -> tuple[Claim, float]:
            began = self._clock()
            return await work(connection, asked), self._clock() - began

        try:
            if pace.aside:
                limits = Limits(statement=pace.patience, lock=ASIDE_LOCK)
                claim, took = await self._links.aside.run(measured, limits=limits)
            else:
                claim, took = await self._links.on_claim(measured)
        except TIMED_OUT:
            self.pace = timed_out(pace, asked=asked)
            raise
        except REFUSED_VALUES as error:
            self._refusals += asked == 1
            self._refusal = describe(error)
            self.pace = refused(pace, asked=asked)
            raise
        self._refusals = 0
        size = sum(len(task.input) + len(task.flow_input or b"") for task in claim.tasks)
        self.pace = succeeded(pace, asked=asked, read=claim.read, size=size, took=took)
        return replace(claim, full=claim.read >= asked)


async def beside_claims(links: Links, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do work that is safe to repeat aside, or where that connection is taken, for a moment on that of the claims.

    A claim in trouble may have it for two minutes, and the recovery of another flow must not wait for it. Where many
    flows recover at once, their next claims must not wait for all of them.
    """
    with contextlib.suppress(*TIMED_OUT):
        return await links.aside.run_here_or(links.claim, work, after=ASIDE_PATIENCE, limits=links.claim.limits)
    return await links.aside.run(work)


async def with_more_time(links: Links, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do work that is safe to repeat: on the connection of the claims, and aside where it takes too long for that."""
    try:
        return await links.on_claim(work)
    except TIMED_OUT:
        return await links.aside.run(work)
