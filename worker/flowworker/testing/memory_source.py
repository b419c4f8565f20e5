"""Sources without a database: the twins of the SQL ones, for tests of flows and of the runtime.

A `MemoryStore` plays the database; its clock is a parameter, so that backoffs pass in no time. One contract suite runs
on these sources and on the real ones.
"""

from uuid import UUID

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.testing.memory_flow_source import MemoryFlowSource
from flowworker.testing.memory_queue_source import MemoryQueueSource
from flowworker.testing.memory_store import MemoryStore

__all__ = ["MemoryStore", "memory_source"]


def memory_source(workload: Flow | Queue, store: MemoryStore, worker_id: UUID) -> MemoryFlowSource | MemoryQueueSource:
    """A registered worker's source for a flow or queue, which is added to the store where it is missing."""
    store.add(workload)
    store.beat(worker_id)
    match workload:
        case Flow():
            return MemoryFlowSource(flow=workload, worker_id=worker_id, store=store)
        case Queue():
            return MemoryQueueSource(queue=workload, worker_id=worker_id, store=store)
