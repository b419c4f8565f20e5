"""From a definition to the source that serves it, and to a database that has it."""

from collections.abc import Callable, Sequence
from typing import assert_never
from uuid import UUID

from flowworker.database.capabilities import detect
from flowworker.database.compile import ensure_compiled, ensure_queue
from flowworker.database.connection import Connection
from flowworker.database.link import Links
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.option_change import OptionChange
from flowworker.runtime.source import Source
from flowworker.runtime.workload import Workload
from flowworker.worker_options import CompileMode


def make_source(workload: Workload, *, worker_id: UUID, links: Links, has_watched: Callable[[], bool]) -> Source:
    """The source of a flow or queue for one worker.

    Args:
        workload: the definition.
        worker_id: of the worker.
        links: the connections of the process.
        has_watched: whether this process has had the database for as long as living workers take to show themselves.
    """
    match workload:
        case Flow():
            from flowworker.runtime.sources.flow_source import FlowSource

            return FlowSource(flow=workload, worker_id=worker_id, links=links)
        case Queue():
            from flowworker.runtime.sources.queue_source import QueueSource

            return QueueSource(queue=workload, worker_id=worker_id, links=links, has_watched=has_watched)
        case _:
            assert_never(workload)


async def compile_workload(workload: Workload, *, links: Links, mode: CompileMode) -> Sequence[OptionChange]:
    """Create a flow or queue that is missing, where the mode and the rights allow it; check one that is there.

    Returns:
        The options that a flow has otherwise in the database, where they are in force.

    Raises:
        DataError: it is missing, or has another shape.
        AccessError: the role may not create it.
        DatabaseUnavailableError: try again later.
    """

    async def work(connection: Connection) -> Sequence[OptionChange]:
        capabilities = await detect(connection)
        match workload:
            case Flow():
                return (await ensure_compiled(connection, workload, capabilities, mode=mode)).changes
            case Queue():
                await ensure_queue(connection, workload, capabilities, mode=mode)
                return ()
            case _:
                assert_never(workload)

    return await links.on_claim(work)
