"""Memory of large payloads, given back to the system.

What Python frees, glibc's malloc keeps: after its first large block it takes blocks of up to 32 MB from heaps that only
shrink at their end, one for each of several threads. A worker that has served eighty inputs of 8 MB would stay at its
peak for as long as it lives. `malloc_trim` gives back whole pages in the middle of the heaps, too.
"""

import asyncio
import contextvars
import ctypes
import threading
import time
from collections.abc import Callable

from flowworker.telemetry.events import Event, TaskFailed, TaskReleased, TaskStopped, TaskSuperseded

WORTH_TRIMMING = 4 * 1024 * 1024
"""Bytes of inputs and outputs after which much may be kept."""

DELAY = 10.0
"""Seconds from then to the trim, and so the least between two: a trim walks all heaps, in a few milliseconds."""


class MemoryTrimmer:
    """A subscriber for processes that are ours: gives memory back some time after large payloads are done with."""

    def __init__(self, trim: Callable[[], None] | None) -> None:
        """Take what trims, which is called in a thread of its own; None, where there is no such thing, does nothing."""
        self._trim = trim
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: Event) -> None:
        """Count the payloads of tasks that have ended. Must be called on an event loop."""
        if self._trim is None or not isinstance(event, TaskStopped | TaskFailed | TaskReleased | TaskSuperseded):
            return
        self._bytes += len(event.task.input) + len(event.task.flow_input or b"")
        self._bytes += len(event.output) if isinstance(event, TaskStopped) else 0
        if self._bytes >= WORTH_TRIMMING and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(DELAY, self._trim_now, self._trim, context=contextvars.Context())

    def _trim_now(self, trim: Callable[[], None]) -> None:
        self._timer, self._bytes = None, 0
        threading.Thread(target=trim, name="give memory back", daemon=True).start()


class IdleTrimmer:
    """The same for a process that does one thing after the other, and waits in between."""

    def __init__(self, trim: Callable[[], None] | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Take what trims; None does nothing.

        Args:
            trim: gives memory back.
            clock: monotonic seconds.
        """
        self._trim = trim
        self._clock = clock
        self._bytes = 0
        self._due: float | None = None

    @property
    def due_in(self) -> float | None:
        """Seconds until `give_back` should be called, if nothing else is to do then; None while there is no need."""
        return None if self._due is None else max(0.0, self._due - self._clock())

    def count(self, size: int) -> None:
        """So many bytes of payload are done with."""
        self._bytes += size
        if self._trim is not None and self._bytes >= WORTH_TRIMMING and self._due is None:
            self._due = self._clock() + DELAY

    def give_back(self) -> None:
        """Trim."""
        self._due, self._bytes = None, 0
        if self._trim is not None:
            self._trim()


def system_trim() -> Callable[[], None] | None:
    """Glibc's `malloc_trim`; None with another C library."""
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
    malloc_trim.argtypes, malloc_trim.restype = (ctypes.c_size_t,), ctypes.c_int
    return lambda: malloc_trim(0)
