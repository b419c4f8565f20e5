"""Processes of the node's PID 1, which is also the parent of every process that lost its own.

One reaper collects all of them, so nothing else here may wait for a process: neither `subprocess` nor asyncio's
own watchers are used.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}
"""Daemons get nothing of the caller's environment: proxies and credentials stay outside."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was started here."""

    pid: int
    ended: asyncio.Future[int]
    """Exit code; negative: the signal that ended it."""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not self.ended.done()

    async def end(self) -> int:
        """Wait for its end; who gives up waiting leaves it as it is."""
        return await asyncio.shield(self.ended)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.is_running:
            os.kill(self.pid, number)


class Processes:
    """Starts processes and collects every one that ends."""

    def __init__(self) -> None:
        self._by_pid: dict[int, Process] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def spawn(self, command: Sequence[str], log: Path) -> Process:
        """Start a process with its output at the end of a log.

        Raises:
            OSError: the program cannot be started.
        """
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        pid = os.posix_spawnp(command[0], list(command), ENVIRONMENT, file_actions=actions, setsid=True)
        child = Process(pid, self._loop.create_future())
        self._by_pid[pid] = child
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if child := self._by_pid.pop(pid, None):
                child.ended.set_result(os.waitstatus_to_exitcode(status))
