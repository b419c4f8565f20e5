"""Daemons as child processes: started, stopped, killed, frozen and thawed; none outlives its parent."""

import ctypes
import http.client
import os
import signal
import ssl
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from testkit.cluster.api import fetch
from testkit.cluster.daemons import Daemon
from testkit.cluster.errors import StartError
from testkit.cluster.layout import Layout

LOOK_EVERY = 0.05
"""Seconds between two looks at a condition."""
PATIENCE = 40.0
"""Seconds a daemon may take to come up: many times the usual two, and less than the time limit of a test."""
STOP_PATIENCE = 20.0
"""Seconds a daemon may take to stop before it is killed."""
LAST_LINES = 50

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Children:
    """The daemons of one cluster; to be used from one thread, whose end would end them."""

    layout: Layout
    context: ssl.SSLContext
    """With the cluster's authority and a certificate that may ask every daemon for its health."""
    _daemons: dict[str, Daemon] = field(default_factory=dict[str, Daemon], init=False)
    _processes: dict[str, subprocess.Popen[bytes]] = field(
        default_factory=dict[str, "subprocess.Popen[bytes]"], init=False
    )

    def start(self, daemon: Daemon) -> None:
        """Start a daemon; its log is continued."""
        parent = os.getpid()
        with self.layout.log(daemon.name).open("ab") as log:
            self._processes[daemon.name] = subprocess.Popen(
                daemon.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath, "HOME": str(self.layout.state)},
                start_new_session=True,
                preexec_fn=lambda: _die_with(parent),
            )
        self._daemons[daemon.name] = daemon

    def start_again(self, name: str) -> None:
        """Start a daemon that was stopped, and wait until it works."""
        if self.runs(name):
            return
        self.start(self._daemons[name])
        self.wait_healthy(name)

    def stop(self, name: str) -> None:
        """Signal a daemon to stop and wait; kill it when it takes too long or is frozen."""
        self._signal(name, signal.SIGTERM)
        self._wait_ended(name, STOP_PATIENCE)

    def kill(self, name: str) -> None:
        """End a daemon at once."""
        self._signal(name, signal.SIGKILL)
        self._wait_ended(name, STOP_PATIENCE)

    def freeze(self, name: str) -> None:
        """Let a daemon stand still, as a paused machine would look: its connections stay open."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen daemon go on."""
        self._signal(name, signal.SIGCONT)

    def end_all(self) -> None:
        """Kill everything; what they hold is thrown away."""
        for name in self._processes:
            self._signal(name, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()

    def runs(self, name: str) -> bool:
        """Whether a daemon's process exists."""
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def pids(self) -> dict[str, int]:
        """Process ids of the daemons that run."""
        return {name: process.pid for name, process in self._processes.items() if self.runs(name)}

    def wait_healthy(self, name: str) -> None:
        """Wait until a daemon says that it works.

        Raises:
            StartError: it ended, or does not work in time.
        """
        self.wait(lambda: self._healthy(name), name, f"{name} works")

    def wait(self, condition: Callable[[], bool], name: str, what: str) -> None:
        """Wait until a condition holds that a daemon has to bring about; a failed connection is "not yet".

        Raises:
            StartError: the daemon ended, or the condition does not hold in time.
        """
        deadline, problem = time.monotonic() + PATIENCE, "not yet"
        while time.monotonic() < deadline:
            if not self.runs(name):
                raise StartError(self._complaint(what, f"{name} ended with {self._processes[name].returncode}", name))
            try:
                if condition():
                    return
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
            time.sleep(LOOK_EVERY)
        raise StartError(self._complaint(what, f"waited {PATIENCE:g} s; last answer: {problem}", name))

    def _healthy(self, name: str) -> bool:
        url = self._daemons[name].health
        return url is None or fetch(url, context=self.context)[0] == http.HTTPStatus.OK

    def _complaint(self, what: str, problem: str, name: str) -> str:
        path = self.layout.log(name)
        return f"in vain: {what}: {problem}. The last lines of {path}:\n{tail(path, LAST_LINES)}"

    def _signal(self, name: str, number: signal.Signals) -> None:
        if self.runs(name):
            self._processes[name].send_signal(number)

    def _wait_ended(self, name: str, patience: float) -> None:
        process = self._processes[name]
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file that may not exist."""
    if not path.exists():
        return ""
    with path.open(errors="replace") as file:
        return "".join(deque(file, lines))


def _die_with(parent: int) -> None:
    """Runs in the child: have the kernel kill it when its parent ends, however that ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
