"""Finding runs: what is asked for, in which order, and how long a search may take.

Pages go on from the last run of the one before, by when it started and its id, and nothing is counted: a page costs the
same however many runs there are. A search for which there is no index reads many of them, so each has a limit.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg

from flowworker.database.connection import AnyConnection
from flowworker.database.faults import translated
from flowworker.database.records import RunStatus
from flowworker.database.runs import RunSummary, summary_of, unknown_run
from flowworker.database.statements import fill, load
from flowworker.errors import DataError, UsageError

NEWEST = fill("client/runs", error=load("client/run_error"), beyond="<", direction="DESC")
OLDEST = fill("client/runs", error=load("client/run_error"), beyond=">", direction="ASC")

SEARCH_TIMEOUT = 5.0
"""Seconds that a search may take."""

LONGEST_TIMEOUT = 2_000_000.0
"""Seconds; PostgreSQL takes no more than 2^31 milliseconds."""

ID_PART = re.compile(r"[0-9a-f]{1,32}")
ID_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSearch:
    """Which runs are asked for; None and nothing mean any."""

    flow_slug: str | None = None
    status: RunStatus | None = None
    since: datetime | None = None
    """Started then or later."""
    until: datetime | None = None
    """Started before."""
    error: str | None = None
    """Part of the error of a failed run, in whatever case."""
    id_prefix: str | None = None
    """How the run's id begins, with or without dashes."""
    input: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the run's input holds: value as text, by path. A path is names and list positions with dots between them."""
    oldest_first: bool = False
    after: UUID | None = None
    """The last run of the page before."""


async def search_runs(
    connection: AnyConnection, search: RunSearch, *, limit: int, timeout: float = SEARCH_TIMEOUT
) -> list[RunSummary]:
    """At most `limit` runs, newest first unless the oldest are wanted first.

    Args:
        connection: to the database.
        search: which runs.
        limit: most runs to give.
        timeout: seconds after which the search ends.

    Raises:
        UnknownRunError: `after` is no run.
        UsageError: `id_prefix` begins no run's id.
        DataError: the search took too long; says how to narrow it down.
    """
    ids = id_range(search.id_prefix)
    with translated("list runs"):
        async with connection.transaction(isolation="read_committed", readonly=True):
            begin = None if search.after is None else await _start_of(connection, search.after)
            await connection.execute(load("client/search_limit"), milliseconds(timeout))
            try:
                rows = await connection.fetch(
                    OLDEST if search.oldest_first else NEWEST,
                    search.flow_slug, search.status, search.since, search.until, *ids, search.error,
                    _wanted(search.input), begin, search.after, limit,
                )  # fmt: skip
            except asyncpg.QueryCanceledError as error:
                raise DataError(too_long(timeout)) from error
    return [summary_of(row) for row in rows]


def milliseconds(timeout: float) -> str:
    """Seconds as PostgreSQL's `statement_timeout` takes them, of which 0 would mean none."""
    return str(max(round(min(timeout, LONGEST_TIMEOUT) * 1000), 1))


def too_long(timeout: float) -> str:
    """What to say about a search that was ended."""
    return (
        f"the search took longer than {timeout:g} s and was ended: ask for less, for example for one flow, for runs "
        "that failed or for a shorter time, or raise the timeout. Where `flowworker db install` has not made its index "
        "on runs, run it again"
    )


def id_range(prefix: str | None) -> tuple[UUID | None, UUID | None]:
    """The first and the last run id that begin with a text.

    Raises:
        UsageError: none does.
    """
    if prefix is None:
        return None, None
    digits = prefix.lower().replace("-", "")
    if not ID_PART.fullmatch(digits):
        raise UsageError(f"no run's id begins with {prefix!r}: an id has 32 digits from 0 to f")
    return UUID(digits.ljust(ID_DIGITS, "0")), UUID(digits.ljust(ID_DIGITS, "f"))


async def _start_of(connection: AnyConnection, run_id: UUID) -> datetime:
    started_at = await connection.fetchval(load("client/run_start"), run_id)
    if started_at is None:
        raise unknown_run(run_id)
    return started_at


def _wanted(values: Mapping[str, str]) -> str | None:
    """The parts of an input that are asked for, as the statement takes them."""
    wanted = [{"path": path.split("."), "value": value} for path, value in values.items()]
    return json.dumps(wanted) if wanted else None
