"""Draining workers from the command line: who is meant, and when it is done."""

import asyncio
from collections.abc import Sequence

from flowworker.client import Client
from flowworker.database.workers_admin import WorkerReport
from flowworker.errors import DataError, UsageError

LOOK_EVERY = 1.0
"""Seconds between two looks at workers that drain."""
RENEWALS_PER_LEASE = 3
ENDED = frozenset({"drained", "stopped", "lost"})
"""States in which a worker holds nothing any more."""


def chosen(workers: Sequence[WorkerReport], targets: Sequence[str], slug: str | None) -> list[WorkerReport]:
    """The living workers that are meant: by id, name, pod or pod uid, or all of one flow or queue.

    Raises:
        UsageError: neither targets nor a flow or queue are given.
        DataError: no worker matches one of the targets, or the flow or queue has no worker.
    """
    if not targets and slug is None:
        raise UsageError("name workers (id, name, pod or pod uid), or give --slug for all of a flow or queue")
    missing = [target for target in targets if not any(target in names(worker) for worker in workers)]
    if missing:
        raise DataError(f"no living worker is called {', '.join(map(repr, missing))}; see `flowworker workers list`")
    named = [worker for worker in workers if not targets or names(worker) & set(targets)]
    found = [worker for worker in named if slug in (None, worker.slug)]
    if not found:
        raise DataError(f"no living worker serves {slug!r}; see `flowworker workers list`")
    return found


def names(worker: WorkerReport) -> set[str]:
    """Everything a worker may be called on the command line."""
    return {str(worker.worker_id), worker.worker_name, worker.pod_name or "", worker.pod_uid or ""} - {""}


async def drain(client: Client, workers: Sequence[WorkerReport], *, seconds: float, reason: str) -> None:
    """Ask once; the request lapses after `seconds`."""
    await client.drain([str(worker.worker_id) for worker in workers], seconds=seconds, reason=reason)


async def drain_and_wait(
    client: Client, workers: Sequence[WorkerReport], *, seconds: float, reason: str
) -> list[WorkerReport]:
    """Keep the request from lapsing until all of them hold nothing, and give their last state."""
    wanted = {worker.worker_id for worker in workers}
    clock = asyncio.get_running_loop().time
    renew_at = clock()
    while True:
        if clock() >= renew_at:
            await drain(client, workers, seconds=seconds, reason=reason)
            renew_at = clock() + seconds / RENEWALS_PER_LEASE
        now = [worker for worker in await client.workers(ended=True) if worker.worker_id in wanted]
        if all(worker.state in ENDED for worker in now):
            return now
        await asyncio.sleep(LOOK_EVERY)
