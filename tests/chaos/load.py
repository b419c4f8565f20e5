"""Work in plenty for scenarios under load, and the question whether it goes on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID, uuid4

from testkit.support.waiting import until
from tests.chaos.ground import SECOND, Ground
from tests.chaos.workloads import Plan, fan, jobs

from flowworker.client import Client
from flowworker.errors import DatabaseUnavailableError

WIDTH = 4
EXECUTIONS = WIDTH + 1
"""That begin at once for each unit of load: the elements of the map, and the job."""


async def put_load(ground: Ground, number: int, *, seconds: float = 0.2) -> None:
    """Start so many runs of `fan`, some attempts of which fail, and send as many jobs where the ground has the queue.

    Each handler sleeps for so many seconds.
    """
    for _ in range(number):
        await ground.start_run(fan, [Plan(seconds=seconds)] * (WIDTH - 1) + [Plan(seconds=seconds, failures=1)])
        if jobs in ground.workloads:
            await ground.send(jobs, Plan(seconds=seconds))


@asynccontextmanager
async def customers(ground: Ground, number: int) -> AsyncGenerator[None]:
    """So many customers, who start one run after the other and wait for each, whatever happens to the server."""
    closing = asyncio.Event()
    async with Client(ground.database.dsn) as client, asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(_be_customer(ground, client, closing))
        try:
            yield
        finally:
            closing.set()


async def _be_customer(ground: Ground, client: Client, closing: asyncio.Event) -> None:
    """A start without an answer is in doubt, and is tried again under the same id: it must not start a second run."""
    while not closing.is_set():
        run_id = uuid4()
        ground.in_doubt.add(str(run_id))
        await until(partial(_started, client, run_id), "a run can be started")
        ground.in_doubt.discard(str(run_id))
        ground.started.add(str(run_id))
        await client.wait(run_id, timeout=60)


async def _started(client: Client, run_id: UUID) -> bool:
    try:
        await client.start(fan.slug, [Plan(seconds=0.2).model_dump()] * WIDTH, run_id=run_id)
    except DatabaseUnavailableError:
        return False
    return True


async def goes_on(ground: Ground, since: int, *, within: float) -> None:
    """Wait for a handler that begins after this instant (monotonic nanoseconds), which must be soon (seconds)."""

    def later() -> list[int]:
        return [execution.began for execution in ground.executions() if execution.began > since]

    waited = (min(await until(later, "a handler begins again", patience=60)) - since) / SECOND
    assert waited <= within, f"the first handler began after {waited:.1f} s"


def repeats(ground: Ground) -> int:
    """How many executions were not the first of their attempt."""
    attempts = [(execution.key, execution.attempt) for execution in ground.executions()]
    return len(attempts) - len(set(attempts))
