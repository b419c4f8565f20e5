"""What the workers of the end-to-end tests run; mounted into the worker's image as the module `flows`.

Every execution writes its begin and its end into `e2e.journal`, over a connection of its own that outlives trouble with
the worker's. It must not import anything of this repository but `flowworker`.
"""

import asyncio
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from pydantic import BaseModel

from flowworker import Flow, Queue, TaskContext

TIMEOUT = 120
"""Seconds a task may take: also how long a worker that is asked to stop may go on."""
BRIEF = 3
"""Seconds where it is about what happens then."""
LOOK_EVERY = 0.2
TRY_AGAIN_AFTER = 0.5

WRITE = """
    INSERT INTO e2e.journal (execution, what, owner, step, index, attempt, worker, pid)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
"""
GATE = "SELECT true FROM e2e.gates WHERE name = $1"


class Plan(BaseModel):
    """How the handlers of a run or job behave."""

    seconds: float = 0.0
    """Time that each handler takes, asleep."""
    gate: str | None = None
    """Handlers wait until this gate is opened."""
    exits: str | None = None
    """The process ends, without a word, when this gate is opened; a later execution does not."""
    failures: int = 0
    """Attempts that fail."""
    note: str = ""
    """Carried along, and a part of the output."""


class Done(BaseModel):
    """What every handler returns: which execution it was."""

    execution: str
    plan: Plan


class Database:
    """One connection for everything that handlers note or ask, made anew when it is lost."""

    def __init__(self) -> None:
        """Connect later, in the loop of the handlers."""
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._alone = asyncio.Lock()

    async def ask(self, statement: str, *values: Any) -> Any:
        """Run a statement that may be repeated, until the database has answered."""
        while True:
            try:
                async with self._alone:
                    return await self._ask(statement, values)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(TRY_AGAIN_AFTER)

    async def _ask(self, statement: str, values: tuple[Any, ...]) -> Any:
        if self._connection is None or self._connection.is_closed():
            settings = {"application_name": "journal"}
            self._connection = await asyncpg.connect(dsn(), timeout=5, server_settings=settings)
        return await self._connection.fetchval(statement, *values, timeout=5)


def dsn() -> str:
    """Connection string of the worker, as it is in the Secret now."""
    return Path(os.environ["FLOWWORKER_DATABASE_FILE"]).read_text().strip()


database = Database()


async def work(plan: Plan, context: TaskContext) -> Done:
    """Behave as planned, on the record."""
    execution = uuid4().hex
    await note("begin", execution, context)
    if plan.gate is not None:
        await opened(plan.gate)
    if plan.exits is not None and not await database.ask(GATE, f"{plan.exits} was used"):
        await opened(plan.exits)
        await database.ask("INSERT INTO e2e.gates VALUES ($1) ON CONFLICT DO NOTHING", f"{plan.exits} was used")
        os._exit(1)
    await asyncio.sleep(plan.seconds)
    await note("end", execution, context)
    if context.attempt <= plan.failures:
        raise RuntimeError(f"execution {execution} was asked to fail")
    return Done(execution=execution, plan=plan)


async def note(what: str, execution: str, context: TaskContext) -> None:
    """Write a line of the journal."""
    job = context.run_id is None
    owner = context.step_slug if job else str(context.run_id)
    index = context.message.msg_id if job else context.task_index
    pod = os.environ["FLOWWORKER_POD_NAME"]
    await database.ask(WRITE, execution, what, owner, context.step_slug, index, context.attempt, pod, os.getpid())


async def opened(gate: str) -> None:
    """Wait for the test."""
    while not await database.ask(GATE, gate):  # noqa: ASYNC110 - the test is another process, elsewhere
        await asyncio.sleep(LOOK_EVERY)


single = Flow("single", max_attempts=3, base_delay=1, timeout=TIMEOUT)


@single.step
async def only(plan: Plan, ctx: TaskContext) -> Done:
    """The whole flow."""
    return await work(plan, ctx)


fan = Flow("fan", max_attempts=3, base_delay=1, timeout=TIMEOUT)
"""A map and a join."""


@fan.map
async def each(plan: Plan, ctx: TaskContext) -> Done:
    """One task per element of the run's input."""
    return await work(plan, ctx)


@fan.step
async def join(each: list[Done], ctx: TaskContext) -> Done:
    """After all of them."""
    return await work(each[0].plan, ctx)


jobs = Queue("jobs", max_attempts=3, base_delay=1, timeout=TIMEOUT)


@jobs.job
async def job(plan: Plan, ctx: TaskContext) -> Done:
    """One job."""
    return await work(plan, ctx)


brief = Flow("brief", max_attempts=1, timeout=BRIEF)
"""Fails at the first failure, and soon."""


@brief.step
async def once(plan: Plan, ctx: TaskContext) -> Done:
    """The whole flow."""
    return await work(plan, ctx)


errands = Queue("errands", max_attempts=1, timeout=BRIEF)
"""The same for jobs."""


@errands.job
async def errand(plan: Plan, ctx: TaskContext) -> Done:
    """One job."""
    return await work(plan, ctx)
