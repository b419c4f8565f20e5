"""One recovery pass over a flow: mark the dead, then give back or bury what they left, then clear the queue's head."""

from collections.abc import Collection, Sequence
from uuid import UUID

from flowworker.database import flow_results, flow_tasks, stranded
from flowworker.database.connection import Connection
from flowworker.database.flow_results import Failure
from flowworker.database.records import Peer
from flowworker.database.stranded import Bury, Fate, GiveBack, Stranded, fate_of
from flowworker.runtime.source import Recovery


async def recover_flow(connection: Connection, flow_slug: str, *, own_id: UUID, dead: Collection[Peer]) -> Recovery:
    """Do one pass. Every write is fenced, so that observers who act at once, or a worker that wakes, do no harm."""
    lost = await stranded.mark_lost(connection, flow_slug, dead) if dead else []
    tasks = await stranded.find_stranded(connection, flow_slug, own_id=own_id)
    fates = [(task, fate_of(task.losses)) for task in tasks]
    released = await _release(connection, flow_slug, fates)
    failed = await _bury(connection, flow_slug, fates)
    ghosts = await stranded.find_ghosts(connection, flow_slug)
    archived = await flow_tasks.archive(connection, flow_slug, ghosts) if ghosts else 0
    notes = [f"worker {worker_id} is lost: its heartbeat stopped" for worker_id in lost]
    return Recovery(released=released, failed=failed, archived=archived, notes=notes, lost=lost)


async def _release(connection: Connection, queue_name: str, fates: Sequence[tuple[Stranded, Fate]]) -> int:
    back = [(task.fence, fate.losses) for task, fate in fates if isinstance(fate, GiveBack)]
    if not back:
        return 0
    fences, losses = zip(*back, strict=True)
    return len(await flow_results.release(connection, queue_name, fences, losses))


async def _bury(connection: Connection, queue_name: str, fates: Sequence[tuple[Stranded, Fate]]) -> int:
    past = [(task.fence, Failure(error=fate.error, final=True)) for task, fate in fates if isinstance(fate, Bury)]
    if not past:
        return 0
    fences, failures = zip(*past, strict=True)
    return len(await flow_results.fail(connection, queue_name, fences, failures))
