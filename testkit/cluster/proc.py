"""What /proc shows of the processes of a cluster, so that no file with a pid can be missing or out of date."""

import os
import select
import signal
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NAMESPACES = ("pid", "net")


def find(module: str, state: Path) -> list[int]:
    """Pids of all processes that run a module of ours for a state folder, the caller aside."""
    return [pid for pid in _pids() if pid != os.getpid() and _subject(pid, module) == str(state)]


def find_states(module: str) -> set[Path]:
    """State folders that a module of ours runs for."""
    return {Path(state) for pid in _pids() if (state := _subject(pid, module))}


def is_first(pid: int) -> bool:
    """Whether it is PID 1 of a namespace below the caller's."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    numbers = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
    return any(len(each) > 1 and each[-1] == "1" for each in numbers)


@contextmanager
def held_namespaces(pid: int | None) -> Generator[set[str]]:
    """Identities of the namespaces of a process, for a block in which nothing new can get the same ones.

    The numbers of namespaces that are gone are soon given to others, unless they are held open.
    """
    with ExitStack() as held:
        yield {identity for kind in NAMESPACES if pid and (identity := _hold(f"/proc/{pid}/ns/{kind}", held))}


def members(namespaces: set[str]) -> list[int]:
    """Pids of all processes that are in one of these namespaces."""
    return [pid for pid in _pids() if namespaces & _namespaces(pid)]


def end(pids: Iterable[int], number: signal.Signals, patience: float) -> None:
    """Send a signal and wait until the processes are gone."""
    handles = [handle for pid in pids if (handle := _signal(pid, number)) is not None]
    deadline = time.monotonic() + patience
    for handle in handles:
        select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        os.close(handle)


def command_line(pid: int) -> list[str]:
    """Arguments of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _subject(pid: int, module: str) -> str | None:
    """What Python was asked to run the module for; None: it runs something else."""
    arguments = command_line(pid)
    triples = zip(arguments, arguments[1:], arguments[2:], strict=False)
    return next((third for first, second, third in triples if (first, second) == ("-m", module)), None)


def _signal(pid: int, number: signal.Signals) -> int | None:
    try:
        handle = os.pidfd_open(pid)
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return None
    return handle


def _hold(path: str, held: ExitStack) -> str | None:
    try:
        held.callback(os.close, os.open(path, os.O_RDONLY))
        return os.readlink(path)
    except OSError:
        return None


def _namespaces(pid: int) -> set[str]:
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in NAMESPACES}
    except OSError:
        return set()


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
