"""The database in memory keeps JSON as jsonb does."""

from decimal import Decimal
from uuid import uuid4

import pytest
from tests.conftest import Database

from flowworker import Flow, JsonText, Queue
from flowworker.errors import UnknownQueueError
from flowworker.testing import memory_json, run_queue
from flowworker.testing.memory_source import MemoryStore

TEXTS = [
    "1e400",
    "1.50",
    "-0.0",
    "-0",
    "1e-5",
    "1.5e1",
    "12345678901234567890.123456789",
    "123456789012345678901234567890",
    '{"bb": 1, "a": 2, "\u00e9": [null, true, "x"], "c": {}}',
    '"1e400"',
]


async def test_numbers_and_keys_are_kept_as_jsonb_keeps_them(database: Database) -> None:
    connection = await database.connect()
    for text in TEXTS:
        kept = await connection.fetchval("SELECT $1::text::jsonb::text", text)
        assert memory_json.dumps(memory_json.loads(text)).decode() == kept.replace(", ", ",").replace(": ", ":"), text
    await connection.close()


@pytest.mark.parametrize("text", ["1e140000", "1e-20000", "NaN", "-Infinity", "[1"])
def test_what_jsonb_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"overflows|is no JSON|Expecting"):
        memory_json.loads(text)


def test_digits_reach_a_handler_in_memory() -> None:
    queue = Queue("digits")
    got: list[Decimal] = []

    @queue.job
    def book(amount: Decimal) -> None:
        got.append(amount)

    run_queue(queue, [JsonText.parse("12345678901234567890.123456789")])
    assert got == [Decimal("12345678901234567890.123456789")]


def test_a_flow_and_a_queue_do_not_share_messages_in_memory() -> None:
    store = MemoryStore(new_id=uuid4)
    store.add(Flow("first"))
    with pytest.raises(UnknownQueueError, match="is the queue of a flow"):
        store.add(Queue("first"))
    store.add(Queue("second"))
    with pytest.raises(UnknownQueueError, match="would share its messages"):
        store.add(Flow("second"))
