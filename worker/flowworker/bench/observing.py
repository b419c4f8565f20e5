"""What the database and a process have used so far: statements, write-ahead log, processor time, memory.

Processor times come from `/proc`; where the server runs on another machine, or the system has no `/proc`, they are
None. So are statements where the server does not preload pg_stat_statements.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from flowworker.database.connection import Connection
from flowworker.database.statements import load

APPLICATION_NAME = "flowworker-bench"
PROC = Path("/proc")
USER_TIME, SYSTEM_TIME = 11, 12
"""Positions in /proc/PID/stat behind the program's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counters at one moment; two of them make a difference."""

    wal_bytes: float | None
    statements: float | None
    database_seconds: float | None
    """Processor time of the server's processes that work for the one observed."""
    process_seconds: float | None
    """Processor time of the observed process."""

    def since(self, earlier: "Usage") -> "Usage":
        """What was used in between."""
        return Usage(
            wal_bytes=_difference(self.wal_bytes, earlier.wal_bytes),
            statements=_difference(self.statements, earlier.statements),
            database_seconds=_difference(self.database_seconds, earlier.database_seconds),
            process_seconds=_difference(self.process_seconds, earlier.process_seconds),
        )


async def usage(connection: Connection, pid: int) -> Usage:
    """Counters of the database and of one process."""
    backends = [row["pid"] for row in await connection.fetch(load("bench/backends"), APPLICATION_NAME)]
    database: str = await connection.fetchval(load("bench/database"))
    seconds = [_backend_seconds(backend, database) for backend in backends]
    known = [one for one in seconds if one is not None]
    return Usage(
        wal_bytes=await _optional(connection, "bench/wal_position"),
        statements=await _optional(connection, "bench/statements"),
        database_seconds=sum(known) if backends and len(known) == len(seconds) else None,
        process_seconds=processor_seconds(pid),
    )


async def enable_statement_counts(connection: Connection) -> None:
    """Count statements where the server and the role allow it."""
    try:
        await connection.execute(load("bench/create_extension"))
    except asyncpg.PostgresError:
        return


def processor_seconds(pid: int) -> float | None:
    """Processor time of a process; None where it cannot be known."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[USER_TIME]) + int(fields[SYSTEM_TIME])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """Memory of a process; None where it cannot be known."""
    try:
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _backend_seconds(pid: int, database: str) -> float | None:
    """Only a process that calls itself after the database is the one we mean, and on this machine."""
    try:
        title = (PROC / str(pid) / "cmdline").read_text()
    except OSError:
        return None
    return processor_seconds(pid) if database in title else None


async def _optional(connection: Connection, statement: str) -> int | None:
    """A counter; None where the server does not have it or does not show it to us."""
    try:
        async with connection.transaction():
            value: int = await connection.fetchval(load(statement))
    except asyncpg.PostgresError:
        return None
    return value


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else later - earlier
