"""Ending a process together with everything it started. No handler's helper outlives the handler's end by force."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

PASSES = 5
"""Looks at the process table in one kill: each may find what was forked since the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A process in the table of processes."""

    pid: int
    parent: int
    group: int
    session: int


def kill_family(root: int) -> None:
    """SIGKILL a process that leads a session, and all its descendants.

    Its group is killed at once, on every system. Where there is a /proc, so is its whole session, and descendants that
    made sessions of their own.
    """
    for _ in range(PASSES):
        chosen = family(root, process_table())
        for pid in chosen - {root}:  # the root last, which may be this process
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(root, signal.SIGKILL)
        if not chosen:
            return


def family(root: int, table: Iterable[Entry]) -> set[int]:
    """The members of a process's session and group, and its descendants."""
    entries = tuple(table)
    found = {entry.pid for entry in entries if root in {entry.pid, entry.session, entry.group}}
    while grown := {entry.pid for entry in entries if entry.parent in found} - found:
        found |= grown
    return found


def process_table() -> list[Entry]:
    """All processes that have not ended; empty where the system shows no /proc."""
    found: list[Entry] = []
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            entry = parse_stat((folder / "stat").read_text(errors="replace"))
            if entry is not None:
                found.append(entry)
    return found


def parse_stat(line: str) -> Entry | None:
    """One line of `/proc/PID/stat` (proc(5)); None for a process that has ended and is not collected yet."""
    pid, _, rest = line.partition(" ")
    state, parent, group, session, *_ = rest[rest.rindex(")") + 1 :].split()  # a program's name may hold anything
    if state in {"Z", "X"}:
        return None
    return Entry(pid=int(pid), parent=int(parent), group=int(group), session=int(session))
