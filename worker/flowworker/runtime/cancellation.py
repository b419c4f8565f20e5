"""The signal by which a handler learns that its work is no longer wanted."""

import asyncio
import threading


class CancelSignal:
    """Set once, from any thread; asked from any thread; awaited on any event loop."""

    __slots__ = ("_reason", "_waiters")

    _lock = threading.Lock()
    """One for all: it is held for a few instructions, and only where a handler waits or is stopped."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._waiters: tuple[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]], ...] = ()

    @property
    def reason(self) -> str | None:
        """Why the work is no longer wanted; None as long as it is."""
        return self._reason

    def is_set(self) -> bool:
        """Whether the handler should stop."""
        return self._reason is not None

    def set(self, reason: str) -> None:
        """Ask the handler to stop; the first reason stays."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            waiters, self._waiters = self._waiters, ()
        for loop, waiter in waiters:
            _wake(loop, waiter)

    async def wait(self) -> str:
        """Return the reason once there is one."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._reason is not None:
                return self._reason
            entry = (loop, waiter)
            self._waiters = (*self._waiters, entry)
        try:
            await waiter
        finally:
            with self._lock:
                self._waiters = tuple(other for other in self._waiters if other is not entry)
        return self._reason or ""


def _wake(loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[None]") -> None:
    def settle() -> None:
        if not waiter.done():
            waiter.set_result(None)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # that loop is closed: no coroutine waits on it any more
        return
