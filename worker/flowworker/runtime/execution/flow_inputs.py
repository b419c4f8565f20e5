"""Loads the input of runs for handlers that want it, once per run while it is remembered."""

import asyncio
import contextvars
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

from flowworker.database.faults import is_passing
from flowworker.runtime.backoff import Randomness, backoff

T = TypeVar("T")

REMEMBERED = 64
"""Runs whose input is kept; the tasks of one map come close together."""

REMEMBERED_BYTES = 16 * 1024 * 1024
"""Most bytes of inputs that are kept; the last one is, whatever its size, for the other tasks of its map."""

KEPT_FOR = 10.0
"""Seconds without a question after which all are forgotten: an idle worker keeps no payload."""


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
        self._loads: dict[UUID, asyncio.Task[bytes]] = {}
        self._kept: OrderedDict[UUID, bytes] = OrderedDict()
        self._asked_at = 0.0
        self._expiry: asyncio.TimerHandle | None = None

    async def raw(self, run_id: UUID) -> bytes:
        """The run's input as JSON. Waits while the database is away."""
        self._asked_at = self._loop.time()
        if run_id in self._kept:
            self._kept.move_to_end(run_id)
            return self._kept[run_id]
        if run_id not in self._loads:
            # In a context of its own: the asking handler's would keep that handler's task as long as a connection
            # lasts that is opened here.
            load = self._loop.create_task(
                self._persist(run_id), name=f"load input of run {run_id}", context=contextvars.Context()
            )
            self._loads[run_id] = load
            load.add_done_callback(lambda load: self._loaded(run_id, load))
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
        """Give up the loads under way, and forget the rest."""
        for load in self._loads.values():
            load.cancel()
        self._kept.clear()
        if self._expiry is not None:
            self._expiry.cancel()

    async def _persist(self, run_id: UUID) -> bytes:
        failures = 0
        while True:
            try:
                return await self._load(run_id)
            except Exception as error:
                if not is_passing(error):
                    raise
                failures += 1
                await asyncio.sleep(backoff(failures, self._randomness))

    def _loaded(self, run_id: UUID, load: "asyncio.Task[bytes]") -> None:
        del self._loads[run_id]
        if load.cancelled() or load.exception() is not None:
            return  # Those who wait for it learn of it.
        self._kept[run_id] = load.result()
        while len(self._kept) > REMEMBERED or (len(self._kept) > 1 and self._size() > REMEMBERED_BYTES):
            self._kept.popitem(last=False)
        if self._expiry is None:
            self._expire_after(KEPT_FOR)

    def _size(self) -> int:
        return sum(map(len, self._kept.values()))

    def _expire_after(self, seconds: float) -> None:
        self._expiry = self._loop.call_later(seconds, self._expire, context=contextvars.Context())

    def _expire(self) -> None:
        self._expiry = None
        left = self._asked_at + KEPT_FOR - self._loop.time()
        if left > 0:
            self._expire_after(left)
        else:
            self._kept.clear()
