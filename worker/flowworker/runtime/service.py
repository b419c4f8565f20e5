"""The contract of everything that runs in the background: one concern, `start`, `stop`."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

Crash = Callable[[BaseException], None]
"""Called with what ended a background loop that should never end."""


class Service(ABC):
    """A background loop. `stop` may be called twice, and before `start`."""

    def __init__(self, name: str, on_crash: Crash) -> None:
        """Take the name of the asyncio task, and what to call when the loop ends by itself."""
        self._name = name
        self._on_crash = on_crash
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; starting twice is one start."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)
            self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the loop and wait until it has ended."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait({self._task})

    @abstractmethod
    async def _run(self) -> None:
        """The loop."""

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash(error)
