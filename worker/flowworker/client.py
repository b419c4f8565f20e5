"""The client: start runs and send jobs, wait for them, read them back, try them again, cancel them.

Example:
    async with Client(dsn) as client:
        run = await client.start(site_report, Site(urls=["https://example.org"]))
        print((await client.wait(run.run_id, timeout=60)).output)
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import asyncpg

from flowworker.database import bulk, cancelling, jobs_admin, runs, workers_admin
from flowworker.database.bulk import BulkAction, BulkPreview, BulkProgress, BulkResult
from flowworker.database.cancelling import CancelledJob, CancelledRun, Request
from flowworker.database.connection import AnyConnection, Connection, connect
from flowworker.database.faults import translated
from flowworker.database.jobs_admin import Job, JobState
from flowworker.database.records import RunStatus
from flowworker.database.run_events import RunEvents
from flowworker.database.run_search import SEARCH_TIMEOUT, RunFilter, RunSearch, search_runs
from flowworker.database.runs import FlowSummary, Run, RunDetails, RunSummary
from flowworker.database.stuck_runs import UNSERVED_FOR, StuckRun, stuck_runs
from flowworker.database.workers_admin import WorkerReport
from flowworker.definition.json_text import JsonText
from flowworker.errors import DatabaseUnavailableError, DataError

if TYPE_CHECKING:
    from flowworker.definition.flow import Flow
    from flowworker.definition.queue import Queue
    from flowworker.telemetry.stream import EventStream

APPLICATION_NAME = "flowworker-client"
ACQUIRE_TIMEOUT = 30.0
"""Seconds to wait for a free connection of the client's own pool."""
FIRST_QUESTION_AFTER = 0.05
LAST_QUESTION_AFTER = 1.0
"""Seconds between two looks at a run that is waited for: from the first, growing by half, up to the last."""
OUTAGE_TOLERANCE = 60.0
"""Seconds that the database may be away in the middle of a wait."""


class Client:
    """Talks to one database; safe to share between all tasks of one event loop.

    Opens connections when they are needed, at most `max_connections`, and one more to listen while runs are waited
    for. Every method raises `DatabaseUnavailableError`, `MissingRightsError` or `UnsupportedSchemaError` where those
    apply, besides what its own documentation says.
    """

    def __init__(
        self,
        dsn: str,
        *,
        max_connections: int = 4,
        statement_cache: bool = True,
        events: "EventStream | None" = None,
    ) -> None:
        """Take a PostgreSQL URI.

        Args:
            dsn: several hosts and `target_session_attrs` work.
            max_connections: upper bound of the client's pool.
            statement_cache: False for a transaction pooler.
            events: receives an event for every run that this client starts.
        """
        self._dsn = dsn
        self._max_connections = max_connections
        self._statement_cache = statement_cache
        self._events = events
        self._opening = asyncio.Lock()
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._run_events = RunEvents(dsn, application_name=APPLICATION_NAME)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        await self._run_events.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    # Runs

    async def start(
        self,
        flow: "Flow | str",
        input: Any,  # noqa: A002 - pgflow's word
        *,
        run_id: UUID | None = None,
        connection: "AnyConnection | None" = None,
    ) -> Run:
        """Start a run.

        Args:
            flow: a flow, whose input type then checks `input`, or the slug of one with any JSON value as input.
            input: what the root steps get; `JsonText` is stored as it is, with every digit of its numbers.
            run_id: makes the call idempotent: a second start under the same id gives the run that exists.
            connection: an asyncpg connection of yours; the run then starts when your transaction commits.

        Returns:
            The run as it is right after the start; a flow of empty maps may have ended already.

        Raises:
            UnknownFlowError: the database has no such flow.
            InputError: the flow's input type refuses `input`.
            OutputError: `input` cannot be written as JSON.
            DataError: `run_id` belongs to a run of another flow, or pgflow refused the input.
        """
        slug = flow if isinstance(flow, str) else flow.slug
        payload = encode(input) if isinstance(flow, str) else flow.encode_input(input)
        return await self._start(slug, payload, run_id, connection)

    async def retry(self, run_id: UUID, *, new_run_id: UUID | None = None) -> Run:
        """Start a new run of the same flow with the same input as a run that has ended.

        pgflow cannot revive a run: the old one stays as it is, and what it had completed is done again. Repeating the
        call gives the same new run, unless `new_run_id` says otherwise; `run` shows both how they belong together.

        Raises:
            UnknownRunError: the database has no such run.
            DataError: that run has not ended yet.
        """
        async with self._connection("read a run") as connection:
            run = await runs.read_run(connection, run_id)
        if not run.has_ended:
            raise DataError(f"run {run_id} is still under way; only a run that has ended can be tried again")
        return await self._start(run.flow_slug, run.input_json, new_run_id or runs.retry_id(run_id), None)

    async def cancel_run(self, run_id: UUID, *, reason: str | None = None, actor: str | None = None) -> CancelledRun:
        """Cancel a run that is under way: its tasks end, and it fails with an error that says who cancelled it and why.

        Handlers of its tasks are notified by their worker's next heartbeat, within five seconds, and their results are
        superseded. The request is on record in `flowworker.requests`. Repeating the call gives what the first one did.
        The database role needs the rights of `flowworker db install --admin-role`.

        Args:
            run_id: of the run.
            reason: at most 1,000 characters.
            actor: who asks, at most 200 characters; None for the name of the database role.

        Raises:
            UnknownRunError: the database has no such run.
            DataError: the run has ended by itself, or the record cannot hold `reason` or `actor`.
        """
        request = Request(actor=actor, reason=reason)
        async with self._connection("cancel a run") as connection:
            return await cancelling.cancel_run(connection, run_id, request)

    async def preview_runs(
        self, action: BulkAction, which: RunFilter, *, timeout: float = SEARCH_TIMEOUT
    ) -> BulkPreview:
        """Count the runs that `retry_runs` or `cancel_runs` would be about, and show some; changes nothing.

        Args:
            action: what would be done.
            which: to which runs.
            timeout: seconds after which the search is ended.

        Raises:
            UsageError: no run's id begins with `id_prefix`.
            DataError: the search took longer than `timeout`.
        """
        async with self._connection(f"{action} runs") as connection:
            return await bulk.preview(connection, action, which, timeout=timeout)

    async def retry_runs(
        self,
        which: RunFilter | BulkPreview,
        *,
        reason: str | None = None,
        actor: str | None = None,
        progress: Callable[[BulkProgress], None] | None = None,
        timeout: float = SEARCH_TIMEOUT,
    ) -> BulkResult:
        """Start all failed runs again that a filter finds, each as by `retry`, 500 at a time.

        Runs that were cancelled or retried before are left out, and what fails later is not part of it. A call that is
        killed has done whole batches: the same call goes on with the rest, by a filter that is given alike, with times
        as `timedelta`. Each run is retried once. The request is on record in `flowworker.requests`, and which run came
        of which in `flowworker.run_links`.

        Args:
            which: a filter, or what `preview_runs` made of it.
            reason: at most 1,000 characters.
            actor: who asks, at most 200 characters; None for the name of the database role.
            progress: called after each batch.
            timeout: seconds after which the search for the next batch is ended.

        Raises:
            UsageError: no run's id begins with `id_prefix`.
            DataError: a search took longer than `timeout`, or the record cannot hold `reason` or `actor`.
        """
        return await self._bulk(BulkAction.RETRY, which, Request(actor=actor, reason=reason), progress, timeout)

    async def cancel_runs(
        self,
        which: RunFilter | BulkPreview,
        *,
        reason: str | None = None,
        actor: str | None = None,
        progress: Callable[[BulkProgress], None] | None = None,
        timeout: float = SEARCH_TIMEOUT,
    ) -> BulkResult:
        """Cancel all runs under way that a filter finds, each as by `cancel_run`; otherwise as `retry_runs`.

        Runs that start later are not part of it.
        """
        return await self._bulk(BulkAction.CANCEL, which, Request(actor=actor, reason=reason), progress, timeout)

    async def wait(self, run_id: UUID, *, timeout: float | None = None) -> Run:
        """Wait until a run has ended, well or badly.

        Args:
            run_id: of the run.
            timeout: seconds; None waits as long as it takes.

        Raises:
            UnknownRunError: the database has no such run.
            TimeoutError: it has not ended in time.
        """
        try:
            async with asyncio.timeout(timeout):
                async for _ in self.watch(run_id):
                    pass
        except TimeoutError:
            raise TimeoutError(f"run {run_id} has not ended within {timeout:g} s") from None
        async with self._connection("read a run") as connection:
            return await runs.read_run(connection, run_id)

    async def watch(self, run_id: UUID) -> AsyncIterator[RunStatus]:
        """Give the run's status now, and again whenever something may have changed, until the run has ended.

        Raises:
            UnknownRunError: the database has no such run.
        """
        status = await self._status(run_id)
        yield status
        async with self._run_events.about(run_id) as happened:
            pause = FIRST_QUESTION_AFTER
            while status is RunStatus.STARTED:
                with suppress(TimeoutError):
                    await asyncio.wait_for(happened.wait(), pause)
                pause = FIRST_QUESTION_AFTER if happened.is_set() else min(pause * 1.5, LAST_QUESTION_AFTER)
                happened.clear()
                status = await self._patient_status(run_id)
                yield status

    async def run(self, run_id: UUID, *, tasks: int = 100) -> RunDetails:
        """Read a run with its steps and at most `tasks` of its tasks, failed and active ones first.

        Raises:
            UnknownRunError: the database has no such run.
        """
        async with self._connection("read a run") as connection:
            return await runs.read_details(connection, run_id, tasks)

    async def runs(
        self,
        *,
        flow: "Flow | str | None" = None,
        status: RunStatus | None = None,
        since: datetime | timedelta | None = None,
        until: datetime | timedelta | None = None,
        error: str | None = None,
        id_prefix: str | None = None,
        input: Mapping[str, str] | None = None,  # noqa: A002 - pgflow's word
        oldest_first: bool = False,
        after: UUID | None = None,
        limit: int = 50,
        timeout: float = SEARCH_TIMEOUT,
    ) -> list[RunSummary]:
        """Find runs, the newest first.

        Args:
            flow: of this flow.
            status: of this status.
            since: started then, or so long ago, or later.
            until: started before.
            error: failed with an error that holds this text, in whatever case.
            id_prefix: whose ids begin so, with or without dashes.
            input: whose inputs hold these values, as text, by path: `{"customer.id": "7"}`, `{"items.0": "a"}`.
            oldest_first: the oldest first.
            after: the last run of the page before, to go on behind it.
            limit: most runs to give.
            timeout: seconds after which the search is ended.

        Raises:
            UnknownRunError: `after` is no run.
            UsageError: no run's id begins with `id_prefix`.
            DataError: the search took longer than `timeout`. Quick are those by flow, status failed, time and id.
        """
        search = RunSearch(
            flow_slug=flow if flow is None or isinstance(flow, str) else flow.slug,
            status=status,
            since=since,
            until=until,
            error=error,
            id_prefix=id_prefix,
            input=input or {},
            oldest_first=oldest_first,
            after=after,
        )
        async with self._connection("list runs") as connection:
            return await search_runs(connection, search, limit=limit, timeout=timeout)

    async def stuck_runs(
        self,
        *,
        flow: "Flow | str | None" = None,
        unserved_for: float = UNSERVED_FOR,
        limit: int = 50,
        timeout: float = SEARCH_TIMEOUT,
    ) -> list[StuckRun]:
        """Runs that are under way and will not go on by themselves, each with the reason; the oldest of a flow first.

        Args:
            flow: of this flow.
            unserved_for: seconds for which no worker must have served a flow, and its tasks must have waited.
            limit: most runs to give.
            timeout: seconds after which each flow's search is ended.

        Raises:
            DataError: the search took longer than `timeout`.
        """
        slug = flow if flow is None or isinstance(flow, str) else flow.slug
        async with self._connection("look for stuck runs") as connection:
            return await stuck_runs(connection, flow_slug=slug, unserved_for=unserved_for, limit=limit, timeout=timeout)

    async def flows(self) -> list[FlowSummary]:
        """Every flow of the database, with what is going on in it."""
        async with self._connection("list flows") as connection:
            return await runs.list_flows(connection)

    # Jobs

    async def send(
        self,
        queue: "Queue | str",
        payload: Any,
        *,
        delay: int = 0,
        headers: Mapping[str, Any] | None = None,
        connection: "AnyConnection | None" = None,
    ) -> int:
        """Send one job.

        Args:
            queue: a queue, whose handlers' types then check `payload`, or the name of one with any JSON value.
            payload: what the handler gets; `JsonText` is stored as it is, with every digit of its numbers.
            delay: seconds before a worker may take it.
            headers: an object kept beside the payload.
            connection: an asyncpg connection of yours; the job then exists when your transaction commits.

        Returns:
            The job's id, unique within its queue.

        Raises:
            UnknownQueueError: the database has no such queue.
            InputError: no handler of the queue takes `payload`.
            OutputError: `payload` cannot be written as JSON.
        """
        name = queue if isinstance(queue, str) else queue.name
        body = encode(payload) if isinstance(queue, str) else queue.encode_payload(payload)
        async with self._connection(f"send to queue {name!r}", connection) as own:
            extra = None if headers is None else encode(headers)
            return await jobs_admin.send_job(own, name, body, extra, delay)

    async def jobs(self, queue: "Queue | str", *, state: JobState | None = None, limit: int = 50) -> list[Job]:
        """Jobs of a queue, newest first.

        Raises:
            UnknownQueueError: the database has no such queue.
        """
        name = queue if isinstance(queue, str) else queue.name
        async with self._connection("list jobs") as connection:
            return await jobs_admin.list_jobs(connection, name, state=state, limit=limit)

    async def job(self, queue: "Queue | str", job_id: int) -> Job:
        """One job, waiting, running or done.

        Raises:
            UnknownQueueError: the database has no such queue.
            UnknownJobError: the queue has and had no such job.
        """
        name = queue if isinstance(queue, str) else queue.name
        async with self._connection("read a job") as connection:
            return await jobs_admin.read_job(connection, name, job_id)

    async def retry_job(self, queue: "Queue | str", job_id: int) -> int:
        """Send the payload of a failed or cancelled job again, as a new job; repeating it gives the same new job.

        Returns:
            The new job's id.

        Raises:
            UnknownQueueError: the database has no such queue.
            UnknownJobError: the queue has and had no such job.
            DataError: the job has neither failed nor been cancelled.
        """
        name = queue if isinstance(queue, str) else queue.name
        async with self._connection("send a job again") as connection:
            return await jobs_admin.retry_job(connection, name, job_id)

    async def cancel_job(
        self, queue: "Queue | str", job_id: int, *, reason: str | None = None, actor: str | None = None
    ) -> CancelledJob:
        """Cancel a job that waits or runs: it is archived as cancelled.

        A handler that has it is notified by its worker's next heartbeat, within five seconds, and its result is
        superseded. Otherwise as `cancel_run`.

        Args:
            queue: a queue, or its name.
            job_id: of the job.
            reason: at most 1,000 characters.
            actor: who asks, at most 200 characters; None for the name of the database role.

        Raises:
            UnknownQueueError: the database has no such queue.
            UnknownJobError: the queue has and had no such job.
            DataError: the job has ended by itself, or the record cannot hold `reason` or `actor`.
        """
        name = queue if isinstance(queue, str) else queue.name
        request = Request(actor=actor, reason=reason)
        async with self._connection("cancel a job") as connection:
            return await cancelling.cancel_job(connection, name, job_id, request)

    # Workers

    async def workers(self, *, slug: str | None = None, ended: bool = False) -> list[WorkerReport]:
        """What workers of a flow or queue, or of all, say about themselves; `ended` adds those that are gone."""
        async with self._connection("list workers") as connection:
            return await workers_admin.list_workers(connection, slug=slug, ended=ended)

    async def drain(self, targets: Sequence[str], *, seconds: float = 30, reason: str = "asked by a client") -> None:
        """Ask workers, by worker id or pod uid, to claim nothing more; in force for `seconds` unless renewed."""
        async with self._connection("ask workers to drain") as connection:
            await workers_admin.request_drain(connection, targets, seconds=seconds, reason=reason)

    async def resume(self, targets: Sequence[str]) -> None:
        """Let workers, by worker id or pod uid, go on before their drain lapses."""
        async with self._connection("end a drain") as connection:
            await workers_admin.end_drain(connection, targets)

    async def _start(self, slug: str, payload: bytes, run_id: UUID | None, connection: "AnyConnection | None") -> Run:
        async with self._connection(f"start a run of flow {slug!r}", connection) as own:
            run, is_new = await runs.start_run(own, slug, payload, run_id)
        if is_new:
            self._announce(slug, run.run_id)
        return run

    async def _bulk(
        self,
        action: BulkAction,
        which: RunFilter | BulkPreview,
        request: Request,
        progress: Callable[[BulkProgress], None] | None,
        timeout: float,
    ) -> BulkResult:
        plan = await self.preview_runs(action, which, timeout=timeout) if isinstance(which, RunFilter) else which
        if plan.action is not action:
            raise DataError(f"this is a preview of runs to {plan.action}, not to {action}")
        return await bulk.carry_out(
            lambda: self._connection(f"{action} runs"),
            plan,
            request,
            progress=progress or (lambda _: None),
            started=self._announce,
            timeout=timeout,
        )

    def _announce(self, flow_slug: str, run_id: UUID) -> None:
        if self._events is not None:
            from flowworker.telemetry.events import RunStarted

            self._events.emit(RunStarted(flow_slug=flow_slug, run_id=run_id))

    async def _status(self, run_id: UUID) -> RunStatus:
        async with self._connection("read a run") as connection:
            return await runs.read_status(connection, run_id)

    async def _patient_status(self, run_id: UUID) -> RunStatus:
        """Ask while the database may be away for a moment: a wait outlives a restart of PostgreSQL."""
        import stamina

        patience = stamina.AsyncRetryingCaller(attempts=None, timeout=OUTAGE_TOLERANCE, wait_max=LAST_QUESTION_AFTER)
        return await patience.on(DatabaseUnavailableError)(self._status, run_id)

    @asynccontextmanager
    async def _connection(self, purpose: str, given: "AnyConnection | None" = None) -> "AsyncGenerator[AnyConnection]":
        if given is not None:
            yield given
            return
        with translated(purpose):
            pool = await self._open_pool()
            async with pool.acquire(timeout=ACQUIRE_TIMEOUT) as connection:
                yield connection

    async def _open_pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    min_size=0, max_size=self._max_connections, connect=self._connect, reset=_keep_session
                )
            return self._pool

    async def _connect(self, *_arguments: object, **_options: object) -> Connection:
        return await connect(self._dsn, application_name=APPLICATION_NAME, statement_cache=self._statement_cache)


def encode(value: Any) -> bytes:
    """JSON of any value that has one: plain data, dataclasses, pydantic models, dates, UUIDs, `JsonText`.

    Raises:
        DataError: it has none, or jsonb cannot hold it; says where in the value.
    """
    if isinstance(value, JsonText):
        return value.text.encode()
    from flowworker.definition import run_input  # with pydantic, which what only reads does not need
    from flowworker.definition.codec import OutputError

    try:
        return run_input.encode(value, subject="the value")
    except OutputError as error:
        raise DataError(str(error)) from error


async def _keep_session(_connection: Connection) -> None:
    """Nothing here changes session state, so nothing needs asyncpg's reset, which costs a round trip."""
