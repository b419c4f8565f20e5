"""The contract of everything that runs in the background: one concern, `start`, `stop`."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from flowworker.errors import InternalError

Crash = Callable[[BaseException], None]
"""Called with what ended a background loop that should never end."""


class LoopEndedError(InternalError):
    """A background loop returned or was cancelled, and its `stop` had not been called."""


class Service(ABC):
    """A background loop. `stop` may be called twice, and before `start`.

    Every end but the one that `stop` asks for is a crash, whatever it looks like: an exception of any kind, a
    cancellation by someone else, a return.
    """

    def __init__(self, name: str, on_crash: Crash) -> None:
        """Take the name of the asyncio task, and what to call when the loop ends by itself."""
        self._name = name
        self._on_crash = on_crash
        self._task: asyncio.Task[BaseException | None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin; starting twice is one start."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._guarded(), name=self._name)
            self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End the loop and wait until it has ended."""
        self._stopping = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait({self._task})

    @abstractmethod
    async def _run(self) -> None:
        """The loop. It may return only once `_stopping` is set."""

    async def _guarded(self) -> BaseException | None:
        """Give what the loop raised as a value: as an exception, SystemExit would end the whole event loop."""
        try:
            await self._run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - `_ended` reports it
            return error
        return None

    def _ended(self, task: "asyncio.Task[BaseException | None]") -> None:
        if not task.cancelled() and (error := task.result()) is not None:
            self._on_crash(error)
        elif not self._stopping:
            how = "was cancelled from outside" if task.cancelled() else "returned"
            self._on_crash(LoopEndedError(f"{self._name} {how} without having been stopped"))
