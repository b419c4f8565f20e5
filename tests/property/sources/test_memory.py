"""The in-memory store as its users see it."""

from uuid import uuid4

import pytest
from tests.integration.sources.flows import one_step, root_map
from tests.integration.sources.world import claim_all, completed, failed, finish_one

from flowworker.database.records import Verdict
from flowworker.errors import DataError, UnknownFlowError, UnknownQueueError, UnknownRunError
from flowworker.testing.memory_source import MemoryStore, memory_source


async def test_a_backoff_ends_exactly_when_the_clock_says_so() -> None:
    seconds = 0.0
    store = MemoryStore(clock=lambda: seconds)
    source = memory_source(one_step, store, uuid4())
    store.start("one_step", b"null")
    (task,) = await claim_all(source)
    await finish_one(source, task, failed(retry_after=0.1))
    due = await source.next_due()
    assert due == pytest.approx(0.1)
    seconds += due or 0
    (task,) = await claim_all(source)
    assert (await finish_one(source, task, completed(1))).verdict is Verdict.COMPLETED


def test_starting_twice_under_one_id_starts_once() -> None:
    store = MemoryStore()
    store.add(one_step)
    run_id = uuid4()
    assert store.start("one_step", b"1", run_id) == store.start("one_step", b"2", run_id) == run_id
    assert store.run(run_id).input == 1


def test_what_was_not_added_is_unknown() -> None:
    store = MemoryStore()
    with pytest.raises(UnknownFlowError):
        store.start("one_step", b"1")
    with pytest.raises(UnknownQueueError):
        store.send("mail", b"1")
    with pytest.raises(UnknownRunError):
        store.run(uuid4())


def test_a_root_map_needs_a_list() -> None:
    store = MemoryStore()
    store.add(root_map)
    with pytest.raises(DataError, match="must be a list"):
        store.start("root_map", b"{}")
