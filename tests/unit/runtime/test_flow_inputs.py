"""Inputs of runs: loaded once, shared, and kept within bounds."""

import asyncio
import contextvars
from uuid import UUID

import pytest

from flowworker.errors import DatabaseUnavailableError, UnknownRunError
from flowworker.runtime.execution.flow_inputs import KEPT_FOR, REMEMBERED, REMEMBERED_BYTES, RunInputs

pytestmark = pytest.mark.looptime

SEEN = contextvars.ContextVar[str]("seen", default="nothing")


class Inputs:
    """A cache in front of a database that counts the questions."""

    def __init__(self, size: int = 10) -> None:
        self.asked: list[int] = []
        self.contexts: list[str] = []
        self.errors: list[Exception] = []
        self.size = size
        self.cache = RunInputs(self._load, lambda text: text, randomness=lambda: 0.5)

    async def _load(self, run_id: UUID) -> bytes:
        self.asked.append(run_id.int)
        self.contexts.append(SEEN.get())
        await asyncio.sleep(0.1)
        if self.errors:
            raise self.errors.pop(0)
        return bytes(self.size)

    async def raw(self, *numbers: int) -> None:
        for number in numbers:
            assert len(await self.cache.raw(UUID(int=number))) == self.size


async def test_tasks_of_one_run_share_a_load_at_once_and_later() -> None:
    inputs = Inputs()
    await asyncio.gather(inputs.raw(1), inputs.raw(1), inputs.raw(2))
    await inputs.raw(1)
    assert sorted(inputs.asked) == [1, 2]


async def test_the_runs_asked_for_last_are_remembered() -> None:
    inputs = Inputs()
    await inputs.raw(*range(REMEMBERED), 0, REMEMBERED)
    inputs.asked.clear()
    await inputs.raw(0, REMEMBERED, 1)
    assert inputs.asked == [1]


async def test_large_inputs_are_remembered_up_to_a_sum_of_bytes() -> None:
    inputs = Inputs(REMEMBERED_BYTES // 4)
    await inputs.raw(1, 2, 3, 4, 5)
    inputs.asked.clear()
    await inputs.raw(2, 3, 4, 5, 1)
    assert inputs.asked == [1]


async def test_the_last_input_is_remembered_however_large_for_the_tasks_of_its_map() -> None:
    inputs = Inputs(REMEMBERED_BYTES * 2)
    await inputs.raw(1, 2, 2, 2)
    assert inputs.asked == [1, 2]


async def test_when_no_one_asks_any_more_all_are_forgotten() -> None:
    inputs = Inputs()
    await inputs.raw(1)
    await asyncio.sleep(KEPT_FOR * 0.9)
    await inputs.raw(1)
    await asyncio.sleep(KEPT_FOR * 0.9)
    await inputs.raw(1)
    assert inputs.asked == [1]
    await asyncio.sleep(KEPT_FOR * 2)
    await inputs.raw(1)
    assert inputs.asked == [1, 1]


async def test_a_load_waits_while_the_database_is_away_and_another_error_is_not_remembered() -> None:
    inputs = Inputs()
    inputs.errors = [DatabaseUnavailableError("away")] * 3
    await inputs.raw(1)
    inputs.errors = [UnknownRunError("no run")]
    with pytest.raises(UnknownRunError):
        await inputs.raw(2)
    await inputs.raw(2)
    assert inputs.asked == [1, 1, 1, 1, 2, 2]


async def test_a_load_keeps_nothing_of_the_handler_that_asked() -> None:
    inputs = Inputs()
    SEEN.set("a handler's task")
    await inputs.raw(1)
    assert inputs.contexts == ["nothing"]


async def test_a_load_under_way_ends_when_the_cache_is_closed() -> None:
    inputs = Inputs()
    asking = asyncio.ensure_future(inputs.raw(1))
    await asyncio.sleep(0.05)
    inputs.cache.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
