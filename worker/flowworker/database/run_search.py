"""Finding runs: what is asked for, in which order, and how long a search may take.

Pages go on from the last run of the one before, by when it started and its id, and nothing is counted: a page costs the
same however many runs there are. A search for which there is no index reads many of them, so each has a limit.
"""

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

import asyncpg

from flowworker.database.connection import AnyConnection
from flowworker.database.faults import translated
from flowworker.database.records import RunStatus
from flowworker.database.runs import RunSummary, summary_of, unknown_run
from flowworker.database.statements import fill, load
from flowworker.errors import DataError, UsageError

FILTER = fill("client/run_filter", error=load("client/run_error"))
"""The conditions of a `RunFilter`; `filter_values` has their values."""


def listing(also: str, *, oldest_first: bool) -> str:
    """The statement that lists runs under a further condition."""
    beyond, direction = (">", "ASC") if oldest_first else ("<", "DESC")
    return fill(
        "client/runs", error=load("client/run_error"), filter=FILTER, also=also, beyond=beyond, direction=direction
    )


NEWEST = listing("", oldest_first=False)
OLDEST = listing("", oldest_first=True)

SEARCH_TIMEOUT = 5.0
"""Seconds that a search may take."""

LONGEST_TIMEOUT = 2_000_000.0
"""Seconds; PostgreSQL takes no more than 2^31 milliseconds."""

ID_PART = re.compile(r"[0-9a-f]{1,32}")
ID_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are asked for; None and nothing mean any."""

    flow_slug: str | None = None
    since: datetime | timedelta | None = None
    """Started then or so long ago, or later."""
    until: datetime | timedelta | None = None
    """Started before."""
    error: str | None = None
    """Part of the error of a failed run, in whatever case."""
    id_prefix: str | None = None
    """How the run's id begins, with or without dashes."""
    input: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the run's input holds: value as text, by path. A path is names and list positions with dots between them."""

    def at(self, moment: datetime) -> Self:
        """The same with fixed times.

        Raises:
            UsageError: one is too long ago.
        """
        return replace(self, since=_fixed(self.since, moment), until=_fixed(self.until, moment))

    def as_given(self) -> dict[str, object]:
        """What is asked for, as JSON can hold it: alike where the same is asked for."""
        return {
            "flow": self.flow_slug,
            "since": _given(self.since),
            "until": _given(self.until),
            "error": self.error,
            "id": self.id_prefix,
            "input": dict(self.input),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSearch(RunFilter):
    """Which runs are asked for, in which order, from where on."""

    status: RunStatus | None = None
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
    id_range(search.id_prefix)  # refuses what begins no id
    with translated("list runs"):
        begin = None if search.after is None else await _start_of(connection, search.after)
        fixed = search.at(await connection.fetchval(load("client/moment")))
        async with bounded(connection, timeout):
            rows = await connection.fetch(
                OLDEST if search.oldest_first else NEWEST,
                *filter_values(fixed, search.status), begin, search.after, limit,
            )  # fmt: skip
    return [summary_of(row) for row in rows]


@asynccontextmanager
async def bounded(connection: AnyConnection, timeout: float) -> AsyncGenerator[None]:
    """A transaction that only reads, each statement for at most `timeout` seconds.

    Raises:
        DataError: one took longer; says how to narrow it down.
    """
    async with connection.transaction(isolation="read_committed", readonly=True):
        await connection.execute(load("client/search_limit"), _milliseconds(timeout))
        try:
            yield
        except asyncpg.QueryCanceledError as error:
            raise DataError(_too_long(timeout)) from error


def filter_values(fixed: RunFilter, status: RunStatus | None) -> tuple[object, ...]:
    """The values of `FILTER`, for times that are fixed.

    Raises:
        UsageError: `id_prefix` begins no run's id.
    """
    return (
        fixed.flow_slug, status, fixed.since, fixed.until, *id_range(fixed.id_prefix), fixed.error,
        _wanted(fixed.input),
    )  # fmt: skip


def _milliseconds(timeout: float) -> str:
    """Seconds as PostgreSQL's `statement_timeout` takes them, of which 0 would mean none."""
    return str(max(round(min(timeout, LONGEST_TIMEOUT) * 1000), 1))


def _too_long(timeout: float) -> str:
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


def _fixed(time: datetime | timedelta | None, moment: datetime) -> datetime | None:
    try:
        return moment - time if isinstance(time, timedelta) else time
    except OverflowError:
        raise UsageError(f"{time} ago is before the calendar begins") from None


def _given(time: datetime | timedelta | None) -> object:
    if isinstance(time, timedelta):
        return {"seconds_ago": time.total_seconds()}
    return None if time is None else time.isoformat()


def _wanted(values: Mapping[str, str]) -> str | None:
    """The parts of an input that are asked for, as the statement takes them."""
    wanted = [{"path": path.split("."), "value": value} for path, value in values.items()]
    return json.dumps(wanted) if wanted else None
