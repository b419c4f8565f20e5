"""A steady offer of work, at a rate that does not depend on how fast it is done, and how promptly it was done."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from testkit.support.history import Execution
from tests.chaos.ground import SECOND, Ground
from tests.chaos.load import WIDTH
from tests.chaos.workloads import Plan

from flowworker.database.connection import Connection
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

LEAST_LIMIT = 3.0
"""Seconds: below this, being late is the noise of a busy machine."""

TIMES_AS_LONG = 5.0
"""As half of the work took before the fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A run or job, and when the database had it."""

    owner: str
    at: int
    """Monotonic nanoseconds."""


@dataclass(slots=True)
class Offer:
    """Work of one flow or queue, so many units a second, on a connection of its own."""

    ground: Ground
    workload: Flow | Queue
    every: float
    """Seconds."""
    plan: Plan
    offered: list[Offered] = field(default_factory=list[Offered])

    async def run(self, closing: asyncio.Event) -> None:
        """Go on until it is closed; a unit that had to wait delays none of those after it by its own wait."""
        async with self.ground.customer() as connection:
            due = time.monotonic()
            while not closing.is_set():
                await self.put(connection, self.plan)
                due = max(due + self.every, time.monotonic() - self.every)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def put(self, connection: Connection, plan: Plan) -> str:
        """Start one run, or send one job; returns its owner's name in a history."""
        if isinstance(self.workload, Flow):
            value: Plan | list[Plan] = [plan] * WIDTH if self.workload.slug == "fan" else plan
            owner = str(await self.ground.start_run(self.workload, value, connection=connection))
        else:
            owner = f"{self.workload.name}:{await self.ground.send(self.workload, plan, connection=connection)}"
        self.offered.append(Offered(owner=owner, at=time.monotonic_ns()))
        return owner


def promptness(
    offered: Sequence[Offered], executions: Sequence[Execution], *, before: tuple[int, int], during: tuple[int, int]
) -> float:
    """The share of the units offered during a fault that were served as promptly as those before it.

    Args:
        offered: single tasks or jobs.
        executions: of all workers that count.
        before: an interval, in monotonic nanoseconds.
        during: the same of the fault.
    """
    ends = {owner_of(one): one.ended for one in executions if one.ended is not None}
    waits = [(one.at, (ends[one.owner] - one.at) / SECOND if one.owner in ends else float("inf")) for one in offered]
    usual = [wait for at, wait in waits if before[0] <= at < before[1] and wait != float("inf")]
    longest = (during[1] - during[0]) / SECOND / 2
    limit = min(longest, max(LEAST_LIMIT, TIMES_AS_LONG * median(usual)))
    disturbed = [wait for at, wait in waits if during[0] <= at < during[1] - int(limit * SECOND)]
    return sum(wait <= limit for wait in disturbed) / len(disturbed)


def owner_of(execution: Execution) -> str:
    """The name of a single task's run, or of a job, in a history."""
    key = execution.key
    return key.owner if key.owner != key.step else f"{key.owner}:{key.index}"
