"""An index on pgflow's runs by when they started, which pgflow has not.

It is made beside running transactions (CREATE INDEX CONCURRENTLY), so it is no part of the files that `install` applies
in transactions of their own. It waits for transactions that are older than itself, and gives up where one stays open:
nothing waits behind it meanwhile, and the next installation goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from flowworker.database.connection import Connection, describe
from flowworker.database.statements import load

PATIENCE = "30s"
"""How long the installation waits for transactions that are older."""

INDEX_LOCK = 0x666C6F78
"""Key of the advisory lock that the installer holds that makes the index. Others do not wait for it: their waiting
transactions would be older ones, which the index waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """What an installation did about the index."""

    statements: Sequence[str] = ()
    """Those that were carried out."""
    note: str | None = None
    """Why there is none yet, and what to do."""


async def make_run_index(connection: Connection) -> IndexReport:
    """Make the index where there is none that serves; not inside a transaction."""
    state = await connection.fetchrow(load("install/run_index_state"))
    if state is None or state["exists"]:
        return IndexReport()
    if not state["is_ours"]:
        return IndexReport(
            note="pgflow's runs have no index by which lists find the newest ones quickly, and belong to another role: "
            f"run as their owner: {load('install/run_index')}"
        )
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", INDEX_LOCK):
        return IndexReport(note="another installation is making the index on pgflow's runs")
    try:
        state = await connection.fetchrow(load("install/run_index_state"))  # another one may have made it since
        if state is None or state["exists"]:
            return IndexReport()
        return await _make(connection, unfinished=state["unfinished"])
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", INDEX_LOCK)


async def _make(connection: Connection, *, unfinished: bool) -> IndexReport:
    names = ("install/drop_run_index", "install/run_index") if unfinished else ("install/run_index",)
    statements = [load(name) for name in names]
    # What the role's statements may take is meant for other ones: of many runs the index takes its time.
    await connection.execute(f"SET lock_timeout = '{PATIENCE}'; SET statement_timeout = 0")
    try:
        for statement in statements:
            await connection.execute(statement)
    except asyncpg.LockNotAvailableError as error:
        return IndexReport(
            note="the index on pgflow's runs is not made yet, because an older transaction stays open "
            f"({describe(error)}): end it and run `flowworker db install` again"
        )
    finally:
        await connection.execute("RESET lock_timeout; RESET statement_timeout")
    return IndexReport(statements=statements)
