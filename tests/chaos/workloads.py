"""What the worker processes of the chaos tests serve. Every execution writes its begin and its end into the journal."""

import asyncio
import os
import signal
import time
from base64 import b64encode
from pathlib import Path
from random import Random

from pydantic import BaseModel
from testkit.support import journal

from flowworker import Flow, Queue, TaskContext

TIMEOUT = 3600
"""Seconds: recovery must not depend on it."""

LOOK_EVERY = 0.02


class Plan(BaseModel):
    """How the handlers of a run or job behave."""

    seconds: float = 0.0
    """Time that each handler takes, asleep."""
    gate: str | None = None
    """Handlers wait until this gate is opened, for all or for their worker."""
    gated: str | None = None
    """The only step that waits; None: all."""
    blocks: float = 0.0
    """Seconds for which each handler blocks the event loop."""
    kills: bool = False
    """Handlers kill their own process, after `seconds`."""
    failures: int = 0
    """Attempts that fail."""
    ballast: str = ""
    """Makes the input heavy."""


class Done(BaseModel):
    """What every handler returns: which execution it was."""

    execution: str
    plan: Plan


async def work(plan: Plan, context: TaskContext) -> Done:
    """Behave as planned, on the record."""
    writer = journal.Writer(context)
    writer.write(journal.BEGIN)
    if plan.gate is not None and plan.gated in {None, context.step_slug}:
        await opened(plan.gate)
    if plan.blocks:
        time.sleep(plan.blocks)  # noqa: ASYNC251 - blocking the loop is the point
    await asyncio.sleep(plan.seconds)
    if plan.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    writer.write(journal.END)
    if context.attempt <= plan.failures:
        raise RuntimeError(f"execution {writer.execution} was asked to fail")
    return Done(execution=writer.execution, plan=plan.model_copy(update={"ballast": ""}))


async def opened(gate: str) -> None:
    """Wait for the test; a file, because the test is another process and no database may be there."""
    folder = journal.folder() / journal.GATES
    ways: tuple[Path, ...] = (folder / gate, folder / f"{gate}@{journal.worker_name()}")
    while not any(way.exists() for way in ways):  # noqa: ASYNC110 - see above
        await asyncio.sleep(LOOK_EVERY)


single = Flow("single", max_attempts=3, base_delay=1, timeout=TIMEOUT)


@single.step
async def only(plan: Plan, ctx: TaskContext) -> Done:
    """The whole flow."""
    return await work(plan, ctx)


fan = Flow("fan", max_attempts=3, base_delay=0, timeout=TIMEOUT)
"""A map, a join and a chain."""


@fan.map
async def each(plan: Plan, ctx: TaskContext) -> Done:
    """One task per element of the run's input."""
    return await work(plan, ctx)


@fan.step
async def join(each: list[Done], ctx: TaskContext) -> Done:
    """After all of them."""
    return await work(each[0].plan, ctx)


@fan.step
async def last(join: Done, ctx: TaskContext) -> Done:
    """The end."""
    return await work(join.plan, ctx)


jobs = Queue("jobs", max_attempts=3, base_delay=1, timeout=TIMEOUT)


@jobs.job
async def job(plan: Plan, ctx: TaskContext) -> Done:
    """One job."""
    return await work(plan, ctx)


calm = Flow("calm", max_attempts=3, base_delay=1, timeout=TIMEOUT)
"""What nothing disturbs, served by every worker of a cell of the matrix."""


@calm.step
async def quiet(plan: Plan, ctx: TaskContext) -> Done:
    """The whole flow."""
    return await work(plan, ctx)


beside = Queue("beside", max_attempts=3, base_delay=1, timeout=TIMEOUT)
"""What nothing disturbs, served by the disturbed worker alone."""


@beside.job
async def aside(plan: Plan, ctx: TaskContext) -> Done:
    """One job."""
    return await work(plan, ctx)


wide = Flow("wide", max_attempts=3, base_delay=1, timeout=TIMEOUT)
"""A step whose output is long, and a map over it."""


class Spread(BaseModel):
    """How wide, and how heavy."""

    elements: int
    weight: int
    """Bytes of each element; no compression makes them much fewer."""


@wide.step
def elements(plan: Spread) -> list[Plan]:
    """Many elements of many bytes each."""
    chance = Random(plan.elements)
    return [Plan(ballast=b64encode(chance.randbytes(plan.weight * 3 // 4)).decode()) for _ in range(plan.elements)]


@wide.map(over=elements)
async def element(plan: Plan, ctx: TaskContext) -> Done:
    """One of them."""
    return await work(plan, ctx)


def _member(number: int) -> Flow:
    flow = Flow(f"crowd_{number}", max_attempts=3, base_delay=1, timeout=TIMEOUT)

    @flow.step(slug="only")
    async def member(plan: Plan, ctx: TaskContext) -> Done:
        return await work(plan, ctx)

    del member
    return flow


crowd = [_member(number) for number in range(20)]
"""Flows of one process."""
