"""Loads the input of runs for handlers that want it, once per run while it is remembered."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

from flowworker.errors import DatabaseUnavailableError
from flowworker.runtime.backoff import Randomness, backoff

T = TypeVar("T")

REMEMBERED = 64
"""Runs whose input is kept; the tasks of one map come close together."""


class RunInputs:
    """A small cache in front of `Source.flow_input`. Concurrent loads of one run share one query."""

    def __init__(
        self, load: Callable[[UUID], Awaitable[bytes]], decode: Callable[[bytes], Any], *,
        randomness: Randomness = random.random,
    ) -> None:  # fmt: skip
        """Belong to the running event loop.

        Args:
            load: asks the database.
            decode: makes the flow's input type of the JSON.
            randomness: jitter of the backoff while the database is away.
        """
        self._load = load
        self._decode = decode
        self._randomness = randomness
        self._loop = asyncio.get_running_loop()
        self._loads: OrderedDict[UUID, asyncio.Task[bytes]] = OrderedDict()

    async def raw(self, run_id: UUID) -> bytes:
        """The run's input as JSON. Waits while the database is away."""
        if run_id not in self._loads:
            self._loads[run_id] = self._loop.create_task(self._persist(run_id), name=f"load input of run {run_id}")
            self._loads[run_id].add_done_callback(lambda load: self._forget_failure(run_id, load))
            while len(self._loads) > REMEMBERED:
                self._loads.popitem(last=False)
        self._loads.move_to_end(run_id)
        return await asyncio.shield(self._loads[run_id])

    async def decoded(self, run_id: UUID) -> Any:
        """The run's input in the flow's type; from any event loop."""
        if asyncio.get_running_loop() is self._loop:
            return self._decode(await self.raw(run_id))
        raw = asyncio.run_coroutine_threadsafe(self.raw(run_id), self._loop)
        return self._decode(await asyncio.wrap_future(raw))

    def loop_result(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait, in another thread, for work on the event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Give up the loads under way."""
        for load in self._loads.values():
            load.cancel()

    async def _persist(self, run_id: UUID) -> bytes:
        failures = 0
        while True:
            try:
                return await self._load(run_id)
            except DatabaseUnavailableError:
                failures += 1
                await asyncio.sleep(backoff(failures, self._randomness))

    def _forget_failure(self, run_id: UUID, load: "asyncio.Task[bytes]") -> None:
        if (load.cancelled() or load.exception() is not None) and self._loads.get(run_id) is load:
            del self._loads[run_id]
