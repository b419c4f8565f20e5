"""Retrying and cancelling many runs at once, by what they have in common.

What is asked for is frozen when it is first asked: the times that it names, and the moment, after which no run counts
that fails or starts. That stands in a row of flowworker.requests, which the same question finds again while runs are
left over, so that a call that was killed is finished by the next one. A run is found no more once it was acted on: its
retry exists, whose id follows from its own, or it is no longer under way. So each is acted on once, however often it is
called, also by several at the same time.

Retries are started in batches, each of them one transaction. Runs are cancelled in a transaction each: its locks hold
up the results of a run.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar, assert_never
from uuid import UUID

import asyncpg
import orjson

from flowworker.database.cancelling import TRIES, Request, call_cancel_run
from flowworker.database.connection import AnyConnection, describe
from flowworker.database.faults import (
    ADMIN_ROLE_OPTION,
    CLIENT_ROLE_OPTION,
    CONFLICTS,
    REFUSED_VALUES,
    translated,
)
from flowworker.database.records import RunStatus
from flowworker.database.run_search import FILTER, SEARCH_TIMEOUT, RunFilter, bounded, filter_values, listing
from flowworker.database.runs import RunSummary, summary_of
from flowworker.database.statements import fill, load
from flowworker.errors import DatabaseUnavailableError

T = TypeVar("T")

BATCH = 500
"""Runs that are read, and retried, at a time."""
SAMPLE = 10
"""Runs that a preview shows."""
OUTAGE_TOLERANCE = 60.0
"""Seconds that the database may be away in the middle."""

Connections = Callable[[], AbstractAsyncContextManager[AnyConnection]]


class BulkAction(StrEnum):
    """What is done to many runs."""

    RETRY = "retry"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """What distinguishes one action from the other."""

    status: RunStatus
    condition: str
    so_far: str
    role_option: str


KINDS: Mapping[BulkAction, _Kind] = {
    BulkAction.RETRY: _Kind(
        status=RunStatus.FAILED,
        condition="client/retryable",
        so_far="client/retried_so_far",
        role_option=CLIENT_ROLE_OPTION,
    ),
    BulkAction.CANCEL: _Kind(
        status=RunStatus.STARTED,
        condition="client/cancellable",
        so_far="client/cancelled_so_far",
        role_option=ADMIN_ROLE_OPTION,
    ),
}
CONDITIONS = {
    name: {action: fill(kind.condition, moment=name) for action, kind in KINDS.items()} for name in ("$9", "$12")
}
COUNT = {action: fill("client/count_runs", filter=FILTER, also=also) for action, also in CONDITIONS["$9"].items()}
NEWEST = {action: listing(also, oldest_first=False) for action, also in CONDITIONS["$12"].items()}
OLDEST = {action: listing(also, oldest_first=True) for action, also in CONDITIONS["$12"].items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkRequest:
    """A request for many runs, as it is on record."""

    request_id: int
    actor: str
    reason: str | None
    requested_at: datetime
    runs: int
    """How many there were when it was made."""
    moment: datetime
    """Runs that failed, or started, after this are not part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPreview:
    """What an action would do."""

    action: BulkAction
    asked: RunFilter
    frozen: RunFilter
    """The same with fixed times."""
    moment: datetime
    runs: int
    """How many are left to do."""
    flows: Mapping[str, int]
    """How many of each flow, the most first."""
    sample: Sequence[RunSummary]
    """The newest ones."""
    unfinished: BulkRequest | None
    """The request that asked for the same and was interrupted: the next call goes on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkProgress:
    """How far a call has come."""

    request_id: int
    done: int
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRun:
    """A run that could not be started again."""

    run_id: UUID
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """What came of a request for many runs."""

    action: BulkAction
    request_id: int | None
    """None where there was no run."""
    runs: int = 0
    """How many this request has retried or cancelled, in earlier calls, too."""
    refused: Sequence[RefusedRun] = ()
    """Runs that pgflow did not start again."""
    locked: int = 0
    """Runs that other transactions had locked: the same call goes on with them."""


@dataclass(slots=True)
class _Tally:
    refused: dict[UUID, str] = field(default_factory=dict[UUID, str])
    locked: set[UUID] = field(default_factory=set[UUID])


async def preview(
    connection: AnyConnection, action: BulkAction, asked: RunFilter, *, timeout: float = SEARCH_TIMEOUT
) -> BulkPreview:
    """Count the runs that an action would be about, and show some; changes nothing.

    Raises:
        DataError: to count them took too long.
    """
    with translated(f"{action} runs", role_option=KINDS[action].role_option):
        found = await _unfinished(connection, action, asked)
        if found is None:
            unfinished, moment = None, await connection.fetchval(load("client/moment"))
            frozen = asked.at(moment)
        else:
            unfinished, frozen = found
            moment = unfinished.moment
        values = filter_values(frozen, KINDS[action].status)
        async with bounded(connection, timeout):
            counts = await connection.fetch(COUNT[action], *values, moment)
            sample = await connection.fetch(NEWEST[action], *values, None, None, SAMPLE, moment)
    return BulkPreview(
        action=action,
        asked=asked,
        frozen=frozen,
        moment=moment,
        runs=sum(row["runs"] for row in counts),
        flows={row["flow_slug"]: row["runs"] for row in counts},
        sample=[summary_of(row) for row in sample],
        unfinished=unfinished,
    )


async def carry_out(
    connections: Connections,
    plan: BulkPreview,
    request: Request,
    *,
    progress: Callable[[BulkProgress], None],
    started: Callable[[str, UUID], None],
    timeout: float = SEARCH_TIMEOUT,
) -> BulkResult:
    """Do what a preview has shown.

    Args:
        connections: gives a connection to the database.
        plan: what to do.
        request: who asks, and why.
        progress: called after each batch.
        started: called with the flow and the id of each run that was started.
        timeout: seconds that a search for the next batch may take.
    """
    if plan.runs == 0 and plan.unfinished is None:
        return BulkResult(action=plan.action, request_id=None)
    begun = await _patiently(plan.action, connections, lambda connection: _begun(connection, plan, request))
    tally = _Tally()
    last: RunSummary | None = None
    done = 0
    while page := await _patiently(
        plan.action, connections, lambda connection, last=last: _page(connection, plan, last, timeout)
    ):
        await _patiently(
            plan.action, connections, lambda connection, page=page: _act(connection, page, plan, begun, tally, started)
        )
        last, done = page[-1], done + len(page)
        progress(BulkProgress(request_id=begun.request_id, done=done, runs=max(plan.runs, done)))
    return await _patiently(plan.action, connections, lambda connection: _result(connection, plan, begun, tally))


async def _patiently(action: BulkAction, connections: Connections, work: Callable[[AnyConnection], Awaitable[T]]) -> T:
    """All of it may be repeated, so a call outlives a restart of PostgreSQL."""

    async def once() -> T:
        async with connections() as connection:
            with translated(f"{action} runs", role_option=KINDS[action].role_option):
                return await work(connection)

    import stamina  # what only reads runs does without

    patience = stamina.AsyncRetryingCaller(attempts=None, timeout=OUTAGE_TOLERANCE, wait_max=1.0)
    return await patience.on(DatabaseUnavailableError)(once)


async def _unfinished(
    connection: AnyConnection, action: BulkAction, asked: RunFilter
) -> tuple[BulkRequest, RunFilter] | None:
    row = await connection.fetchrow(load("client/unfinished_request"), action, _json(asked.as_given()))
    if row is None:
        return None
    values: dict[str, Any] = dict(row)
    details = orjson.loads(values.pop("details"))
    since, until, moment = (
        None if details[name] is None else datetime.fromisoformat(details[name])
        for name in ("since", "until", "moment")
    )
    assert moment is not None
    found = BulkRequest(runs=details["runs"], moment=moment, **values)
    return found, replace(asked, since=since, until=until)


async def _begun(connection: AnyConnection, plan: BulkPreview, request: Request) -> BulkRequest:
    """The request on record; looked for first, because the reply of the call that wrote it may have been lost."""
    for attempt in range(2):
        if (found := await _unfinished(connection, plan.action, plan.asked)) is not None:
            return found[0]
        assert attempt == 0
        details = {
            "filter": plan.asked.as_given(),
            "since": plan.frozen.since,
            "until": plan.frozen.until,
            "moment": plan.moment,
            "runs": plan.runs,
        }
        await _note(connection, plan, request, "begun", details)
    raise AssertionError


async def _note(
    connection: AnyConnection, plan: BulkPreview, request: Request, outcome: str, details: Mapping[str, object]
) -> None:
    await connection.execute(
        load("client/note_request_for_runs"),
        plan.action, plan.asked.flow_slug or "*", request.actor, request.reason, outcome, _json(details),
    )  # fmt: skip


async def _page(
    connection: AnyConnection, plan: BulkPreview, last: RunSummary | None, timeout: float
) -> Sequence[RunSummary]:
    begin, after = (None, None) if last is None else (last.started_at, last.run_id)
    values = filter_values(plan.frozen, KINDS[plan.action].status)
    async with bounded(connection, timeout):
        rows = await connection.fetch(OLDEST[plan.action], *values, begin, after, BATCH, plan.moment)
    return [summary_of(row) for row in rows]


async def _act(
    connection: AnyConnection,
    page: Sequence[RunSummary],
    plan: BulkPreview,
    begun: BulkRequest,
    tally: _Tally,
    started: Callable[[str, UUID], None],
) -> None:
    ids = [run.run_id for run in page]
    match plan.action:
        case BulkAction.RETRY:
            await _retry(connection, ids, begun, tally, started)
        case BulkAction.CANCEL:
            for run_id in ids:
                await _cancel(connection, run_id, begun, tally)
        case _:
            assert_never(plan.action)


async def _retry(
    connection: AnyConnection,
    ids: Sequence[UUID],
    begun: BulkRequest,
    tally: _Tally,
    started: Callable[[str, UUID], None],
) -> None:
    """All together; where one of them is refused, each by itself."""

    async def once() -> list[asyncpg.Record]:
        async with connection.transaction(isolation="read_committed"):
            return await connection.fetch(load("client/retry_runs"), ids, begun.request_id)

    # Another call may start the same run at the same moment: repeated, this one finds it.
    import stamina

    patience = stamina.AsyncRetryingCaller(attempts=TRIES, wait_initial=0.05, wait_max=0.5)
    try:
        rows = await patience.on((*CONFLICTS, asyncpg.UniqueViolationError))(once)
    except REFUSED_VALUES as error:
        if len(ids) == 1:
            tally.refused[ids[0]] = describe(error)
            return
        for run_id in ids:
            await _retry(connection, [run_id], begun, tally, started)
        return
    for row in rows:
        started(row["flow_slug"], row["new_run_id"])


async def _cancel(connection: AnyConnection, run_id: UUID, begun: BulkRequest, tally: _Tally) -> None:
    request = Request(actor=begun.actor, reason=begun.reason)
    try:
        await call_cancel_run(connection, run_id, request, part_of=begun.request_id)
    except (asyncpg.LockNotAvailableError, *CONFLICTS):
        tally.locked.add(run_id)


async def _result(connection: AnyConnection, plan: BulkPreview, begun: BulkRequest, tally: _Tally) -> BulkResult:
    """What came of it, which is on record once nothing is left to do."""
    runs = await connection.fetchval(load(KINDS[plan.action].so_far), begun.request_id)
    if not tally.locked and await _unfinished(connection, plan.action, plan.asked) is not None:
        outcome = {"request": begun.request_id, "runs": runs, "refused": len(tally.refused)}
        await _note(connection, plan, Request(actor=begun.actor, reason=begun.reason), "done", outcome)
    return BulkResult(
        action=plan.action,
        request_id=begun.request_id,
        runs=runs,
        refused=[RefusedRun(run_id=run_id, error=error) for run_id, error in tally.refused.items()],
        locked=len(tally.locked),
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
