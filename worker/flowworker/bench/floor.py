"""The least that can be done: the worker's own statements in a bare loop, with no worker around them.

Nothing is decoded, run or encoded, nothing is held, extended, retried or reported. A flow is claimed in two
statements and finished behind the fence, on two connections as a worker has them: one claims while the other finishes
what was claimed before. A queue is read and archived by pgmq's own functions, in turn on one connection: what a loop
of four lines does.

Runs as a process of its own, so that it competes for the machine as the worker does:
`python -m flowworker.bench.floor flow|queue BATCH TASKS`. It says `ready`, begins when it reads `go`, says `done`
and keeps its connections until its standard input ends, so that they can be examined.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg

from flowworker.bench.workloads import jobs, noop
from flowworker.database.connection import Connection, connect
from flowworker.database.flow_results import complete_statement
from flowworker.database.flow_tasks import READ_VISIBILITY, claim_statement
from flowworker.database.queue_jobs import LEASE
from flowworker.database.statements import load
from flowworker.runtime.host import loop_factory

APPLICATION_NAME = "flowworker-bench-floor"
DSN_VARIABLE = "FLOWWORKER_DATABASE_URL"
VISIBILITY = 70
NOTHING = b"null"
NEVER_LATE = datetime.max.replace(tzinfo=UTC)
STEP = next(iter(noop.steps))
FENCE = ("run_id", "step_slug", "task_index", "attempt", "started_at")

Batch: TypeAlias = Sequence[asyncpg.Record]
Links: TypeAlias = tuple[Connection, Connection]
Claim: TypeAlias = Callable[[Connection, int], Awaitable[Batch]]
Finish: TypeAlias = Callable[[Connection, Batch], Awaitable[int]]


def flow_floor(worker_id: UUID) -> tuple[Claim, Finish]:
    """Claim and finish of a flow's tasks."""
    claim_sql = claim_statement(noop.slug, routed=False, own_maps=False)
    owned_sql, complete_sql = load("flow/owned"), complete_statement(own_maps=False)

    async def claim(connection: Connection, limit: int) -> Batch:
        read = await connection.fetch(
            claim_sql, noop.slug, READ_VISIBILITY, limit, worker_id, [STEP], [VISIBILITY], [False], NEVER_LATE
        )
        claimed = {row["msg_id"] for row in read if row["msg_id"] is not None}
        owned = await connection.fetch(owned_sql, worker_id, noop.slug)
        return [row for row in owned if row["msg_id"] in claimed]

    async def finish(connection: Connection, batch: Batch) -> int:
        columns = ([row[name] for row in batch] for name in FENCE)
        return len(await connection.fetch(complete_sql, worker_id, *columns, [NOTHING] * len(batch)))

    return claim, finish


async def drain_flow(links: Links, *, worker_id: UUID, batch: int, tasks: int) -> None:
    """Claim and finish so many tasks; one batch is claimed while the one before is finished."""
    claim, finish = flow_floor(worker_id)
    claimed: asyncio.Queue[Batch] = asyncio.Queue(maxsize=1)

    async def produce() -> None:
        found = 0
        while found < tasks:
            rows = await claim(links[0], batch)
            found += len(rows)
            await claimed.put(rows)

    async def consume() -> None:
        done = 0
        while done < tasks:
            done += await finish(links[1], await claimed.get())

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        group.create_task(consume())


async def drain_queue(links: Links, *, batch: int, tasks: int) -> None:
    """Read and archive so many jobs."""
    claim_sql, archive_sql = load("bench/read_floor"), load("flow/archive")
    done = 0
    while done < tasks:
        rows = await links[0].fetch(claim_sql, jobs.name, LEASE, batch)
        done += await links[0].fetchval(archive_sql, jobs.name, [row["msg_id"] for row in rows])


async def serve(kind: str, batch: int, tasks: int) -> None:
    """Be the process."""
    dsn = os.environ[DSN_VARIABLE]
    links = (
        await connect(dsn, application_name=APPLICATION_NAME), await connect(dsn, application_name=APPLICATION_NAME)
    )  # fmt: skip
    worker_id = uuid4()
    if kind == "flow":
        await links[0].execute(load("bench/register_floor"), worker_id, noop.slug)
    await _say("ready")
    if kind == "flow":
        await drain_flow(links, worker_id=worker_id, batch=batch, tasks=tasks)
    else:
        await drain_queue(links, batch=batch, tasks=tasks)
    await _say("done")
    for link in links:
        await link.close()


async def _say(word: str) -> None:
    """Say a word, and wait until the parent answers."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
