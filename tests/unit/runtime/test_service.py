"""Background loops: every end that `stop` did not ask for is a crash with a reason."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from flowworker.runtime.service import LoopEndedError, Service


class Loop(Service):
    """A loop that does what it is given."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self.crashes: list[BaseException] = []
        self.crashed = asyncio.Event()
        self._work = work
        super().__init__("a loop", self._note)

    async def _run(self) -> None:
        await self._work()

    def _note(self, error: BaseException) -> None:
        self.crashes.append(error)
        self.crashed.set()

    @property
    def task(self) -> "asyncio.Task[BaseException | None]":
        assert self._task is not None
        return self._task


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_a_loop_that_raises_whatever_it_is_has_crashed_and_the_event_loop_goes_on(
    kind: type[BaseException],
) -> None:
    async def fails() -> None:
        raise kind("broken")

    loop = Loop(fails)
    loop.start()
    await loop.crashed.wait()
    (error,) = loop.crashes
    assert type(error) is kind
    await loop.stop()
    assert len(loop.crashes) == 1


async def test_a_loop_that_raises_cancelled_error_has_crashed() -> None:
    async def fails() -> None:
        raise asyncio.CancelledError

    loop = Loop(fails)
    loop.start()
    await loop.crashed.wait()
    (error,) = loop.crashes
    assert isinstance(error, LoopEndedError)
    assert str(error) == "a loop was cancelled from outside without having been stopped"


async def test_a_loop_cancelled_by_someone_else_has_crashed() -> None:
    loop = Loop(forever)
    loop.start()
    await asyncio.sleep(0)
    loop.task.cancel()
    await loop.crashed.wait()
    assert [type(error) for error in loop.crashes] == [LoopEndedError]


async def test_a_loop_that_returns_has_crashed() -> None:
    async def returns() -> None: ...

    loop = Loop(returns)
    loop.start()
    await loop.crashed.wait()
    assert [str(error) for error in loop.crashes] == ["a loop returned without having been stopped"]


async def test_a_loop_that_is_stopped_has_not_crashed() -> None:
    loop = Loop(forever)
    loop.start()
    await asyncio.sleep(0)
    await loop.stop()
    await loop.stop()
    assert loop.crashes == []


async def test_a_loop_stopped_before_its_first_step_or_its_start_has_not_crashed() -> None:
    loop, other = Loop(forever), Loop(forever)
    loop.start()
    await loop.stop()
    await other.stop()
    assert loop.crashes + other.crashes == []
