"""A worker: serves one flow or one queue until it is stopped."""

from types import TracebackType
from typing import Any, Self, Unpack
from uuid import UUID

from flowworker.database.link import Dsn
from flowworker.definition.loading import slug_of
from flowworker.definition.queue import Queue
from flowworker.errors import LifecycleError, UsageError
from flowworker.runtime.exits import Exit
from flowworker.runtime.host import Host, Identity
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.runtime.state import WorkerState
from flowworker.runtime.worker_lifecycle import WorkerLifecycle
from flowworker.runtime.workload import HookHandler, JobRun, Router, Workload, router_of
from flowworker.telemetry.stream import EventStream
from flowworker.worker_options import WorkerArguments, WorkerOptions


class Worker:
    """Runs the tasks of a flow, or the jobs of a queue.

    Example:
        >>> async with Worker(site_report, dsn="postgresql://…") as worker:  # doctest: +SKIP
        ...     await worker.wait()

    A subclass may handle the jobs of a queue itself by overriding `perform_work`.
    """

    def __init__(
        self, workload: Workload, *, dsn: Dsn | None = None, host: Host | None = None,
        direct_dsn: Dsn | None = None, statement_cache: bool = True, identity: Identity | None = None,
        events: EventStream | None = None, **options: Unpack[WorkerArguments],
    ) -> None:  # fmt: skip
        """Connect to nothing yet.

        Args:
            workload: the flow or queue to serve.
            dsn: a PostgreSQL URI, or a function that gives one and is asked before each connection; or give `host`.
            host: shared with other workers of the process, which then all use its connections and event stream.
            direct_dsn: for the heartbeat, where `dsn` goes through a transaction pooler.
            statement_cache: False behind a transaction pooler.
            identity: where the process runs, for the report.
            events: receives every event; with `host`, its stream is used.
            options: see `WorkerOptions`; without a `worker_name` it is `<slug>_Worker_1`.

        Raises:
            UsageError: an option makes no sense.
        """
        checked = WorkerOptions.checked(**options)
        self._name = checked.worker_name or f"{slug_of(workload)}_Worker_1"
        if (dsn is None) == (host is None):
            raise UsageError("a worker needs exactly one of dsn=… and host=…")
        self._host = host or Host(
            dsn or "", direct_dsn=direct_dsn, statement_cache=statement_cache, identity=identity, events=events
        )
        self._inner = WorkerLifecycle(
            workload, name=self._name, options=checked, host=self._host, router=self._router(workload)
        )

    @property
    def worker_id(self) -> UUID:
        """The id it is registered under now."""
        return self._inner.worker_id

    @property
    def worker_name(self) -> str:
        """Its name in logs, events and reports."""
        return self._name

    @property
    def lifecycle(self) -> Lifecycle:
        """Where it stands."""
        return self._inner.lifecycle

    @property
    def events(self) -> EventStream:
        """The stream on which the worker emits its events."""
        return self._host.events

    @property
    def host(self) -> Host:
        """What it shares with the other workers of its process."""
        return self._host

    @property
    def has_state(self) -> bool:
        """Whether it has begun far enough for `state`."""
        return self._inner.state() is not None

    def state(self) -> WorkerState:
        """Everything worth showing, from any thread.

        Raises:
            LifecycleError: it has not begun yet.
        """
        state = self._inner.state()
        if state is None:
            raise LifecycleError(f"a worker has a state once it has begun; this one is {self.lifecycle}")
        return state

    async def start(self) -> None:
        """Check or compile the flow or queue, register, and begin to work.

        Raises:
            DatabaseUnavailableError: not reachable within `start_timeout`.
            DataError, AccessError: the flow or queue is not there as the code has it, or rights are missing.
            LifecycleError: it was started before.
        """
        await self._inner.start()

    async def stop(self, *, immediately: bool = False) -> None:
        """Claim nothing more, wait for handlers up to the drain timeout, give back the rest, and return when done.

        Safe before `start` and when called again. A call with `immediately` also hurries a stop under way: handlers
        are not waited for.
        """
        await self._inner.stop(immediately=immediately)

    async def wait(self) -> Exit:
        """Return, once it has stopped, how it ended."""
        return await self._inner.wait()

    async def run(self) -> Exit:
        """Start, and return when it has stopped. Raises what `start` raises."""
        await self.start()
        return await self.wait()

    async def perform_work(self, job: JobRun) -> Any:
        """Handle one job of a queue; override it instead of giving the queue handlers.

        Returns:
            The result, which is stored with the job.
        """
        raise NotImplementedError("override perform_work to handle jobs in the worker itself")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        end = self._inner.exit
        if error is None and end is not None and end.error is not None:
            raise end.error

    def _router(self, workload: Workload) -> Router:
        if type(self).perform_work is Worker.perform_work:
            return router_of(workload)
        if not isinstance(workload, Queue):
            raise UsageError("perform_work handles the jobs of a queue; a flow has handlers for its steps")
        handler = HookHandler(perform_work=self.perform_work, queue_name=workload.name)
        return lambda _: handler
