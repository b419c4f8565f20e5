"""Scenarios that mostly wait run side by side: all chosen ones of a module, on one loop in one thread.

Each stays a test of its own, which only waits for its scenario's end.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, TypeAlias, TypeVar

Stage = TypeVar("Stage")
"""What scenarios are given."""

Scenario: TypeAlias = Callable[[Stage], Coroutine[Any, Any, None]]

ATTRIBUTE = "scenario"


class Company(Generic[Stage]):
    """Scenarios under way."""

    def __init__(self, futures: Mapping[Scenario[Stage], "Future[None]"]) -> None:
        """Know the ends to come."""
        self._futures = futures

    def await_end(self, scenario: Scenario[Stage]) -> None:
        """Return when this scenario has ended, or raise what it raised."""
        self._futures[scenario].result()


def together(scenario: Scenario[Any]) -> Callable[[Company[Any]], None]:
    """Make a test of a scenario: decorates `async def test_…(stage)` in a module with the fixture `company`."""

    def test(company: Company[Any]) -> None:
        company.await_end(scenario)

    test.__name__ = test.__qualname__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    test.__module__ = scenario.__module__
    setattr(test, ATTRIBUTE, scenario)
    return test


@contextmanager
def side_by_side(scenarios: "list[Scenario[Stage]]", stage: Stage, *, at_once: int) -> Generator[Company[Stage]]:
    """Run scenarios, at most so many at once, in their order; those still under way at the end are cancelled."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scenarios", daemon=True)
    thread.start()
    places = asyncio.Semaphore(at_once)

    async def run(scenario: Scenario[Stage]) -> None:
        async with places:
            await scenario(stage)

    futures = {one: asyncio.run_coroutine_threadsafe(run(one), loop) for one in scenarios}
    try:
        yield Company(futures)
    finally:
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
