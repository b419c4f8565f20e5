"""Whole lines to a stream, without ever waiting for who reads it.

A full pipe (a paused terminal, a log collector that hangs) would otherwise stop the event loop with its first line, and
every thread that logs behind it. Lines that the stream does not take at once go to a thread, in their order; when even
its store is full they are dropped, and one line says how many.

A line of up to 4096 bytes is one `write`, which no other process on the same pipe can tear. Lines that come together
share one as far as they fit.
"""

import os
import select
import stat
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TextIO

STORE = 4 << 20
"""Bytes of lines that may wait for the stream."""

FLUSH_TIMEOUT = 1.0
"""Seconds that the end of the process waits for a stream that takes nothing."""


class LineWriter:
    """Writes lines to a file descriptor. Its callers take turns, as handlers of `logging` do under their lock."""

    def __init__(self, descriptor: int, *, lost: Callable[[int], str]) -> None:
        """Write to this descriptor.

        Args:
            descriptor: where to.
            lost: the line that says how many were dropped.
        """
        self._descriptor = descriptor
        self._lost = lost
        self._poll = _poll_of(descriptor)
        self._most = _taken_at_once(descriptor)
        self.begin()
        _writers.add(self)

    def write(self, line: str) -> None:
        """Write a line, now or later."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if _together.gathering:
            self._gather(data)
        else:
            self.write_data(data)

    def _gather(self, data: bytes) -> None:
        gathered = _together.lines.get(self, b"")
        if gathered and len(gathered) + len(data) > select.PIPE_BUF:
            self.write_data(gathered)
            gathered = b""
        _together.lines[self] = gathered + data

    def write_data(self, data: bytes) -> None:
        """Write whole lines with their ends, now or later."""
        if self._thread is None and self._takes(len(data)):  # what most writers do for all their life
            _write(self._descriptor, data)
            return
        with self._waiting:
            at_once = not self._store and not self._writing and self._takes(len(data))
            if not at_once:
                self._keep(data)
        if at_once:
            _write(self._descriptor, data)

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Wait until everything is written, as long as the timeout (seconds) allows."""
        with self._waiting:
            self._waiting.wait_for(lambda: not self._store and not self._writing, timeout)

    def begin(self) -> None:
        """Nothing waits; so it is in a forked copy of this process, too, whose original writes what waits there."""
        self._waiting = threading.Condition()
        self._store: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._writing = False
        self._thread: threading.Thread | None = None

    def _takes(self, size: int) -> bool:
        return (self._most is None or size <= self._most) and (self._poll is None or bool(self._poll.poll(0)))

    def _keep(self, data: bytes) -> None:
        if self._size + len(data) > STORE:
            self._dropped += data.count(b"\n")
            return
        self._store.append(data)
        self._size += len(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_kept, name="flowworker-log", daemon=True)
            self._thread.start()
        self._waiting.notify_all()

    def _write_kept(self) -> None:
        while True:
            with self._waiting:
                self._writing = False
                self._waiting.notify_all()
                self._waiting.wait_for(lambda: self._store)
                self._writing = True
                data = self._store.popleft()
                self._size -= len(data)
                dropped = self._dropped if not self._store else 0
                self._dropped -= dropped
            _write(self._descriptor, data)
            if dropped:
                _write(self._descriptor, self._lost(dropped).encode() + b"\n")


def descriptor_of(stream: TextIO) -> int | None:
    """The file descriptor behind a stream; None when it only looks like a file."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


@contextmanager
def lines_together() -> Generator[None]:
    """Write the lines that the block logs in this thread with few system calls, at its end at the latest."""
    if _together.gathering:
        yield
        return
    _together.gathering = True
    try:
        yield
    finally:
        _together.gathering = False
        lines, _together.lines = _together.lines, {}
        for writer, data in lines.items():
            writer.write_data(data)


class _Together(threading.local):
    gathering = False

    def __init__(self) -> None:
        self.lines: dict[LineWriter, bytes] = {}


_together = _Together()


def _poll_of(descriptor: int) -> "select.poll | None":
    """Looks whether a descriptor takes a line now; None for a file, which always does."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return poll


def _taken_at_once(descriptor: int) -> int | None:
    """Most bytes that a descriptor takes whole when it takes any; None for no limit."""
    mode = os.fstat(descriptor).st_mode
    return select.PIPE_BUF if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _write(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:  # its reader has gone
        return


def _begin_anew() -> None:
    _together.gathering, _together.lines = False, {}
    for writer in tuple(_writers):
        writer.begin()


_writers: "weakref.WeakSet[LineWriter]" = weakref.WeakSet()
os.register_at_fork(after_in_child=_begin_anew)
