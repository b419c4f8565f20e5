"""Several workers in one process: they share at most five connections, and a crashed one is started again."""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, Unpack
from uuid import UUID

from flowworker.database.link import Dsn
from flowworker.errors import InternalError, UsageError
from flowworker.redaction import show_payloads
from flowworker.runtime.backoff import backoff
from flowworker.runtime.exits import Exit, SlotsExhaustedError, asked_for, caused_by, worst
from flowworker.runtime.host import Host, Identity
from flowworker.runtime.state import WorkerState
from flowworker.runtime.worker import Worker
from flowworker.runtime.workload import Workload
from flowworker.telemetry.stream import EventStream
from flowworker.worker_options import SharedArguments

logger = logging.getLogger(__name__)

_in_use: set[str] = set()
"""Names of workers and pools in this process: a second one of the same name is refused."""


class KeeperEndedError(InternalError):
    """What keeps a place of a pool filled has failed; the pool stops instead of running unwatched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """How a pool treats a worker that crashed."""

    attempts: int | None = None
    """Restarts in a row before the pool gives up; None never gives up, 0 never restarts."""
    base: float = 1.0
    """Seconds; doubles with each crash in a row, with full jitter."""
    cap: float = 30.0
    steady_after: float = 60.0
    """Seconds of work after which a crash counts as the first again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One worker's place in a pool, kept across its successive workers."""

    number: int
    """1 to the pool's size."""
    workload: Workload
    name: str


class WorkerPool:
    """Serves several flows and queues, or one of them with several workers.

    Workers are numbered 1 to N and named `<pool>_Worker_<number>`.

    Example:
        >>> async with WorkerPool([site_report, mail], dsn="postgresql://…") as pool:  # doctest: +SKIP
        ...     await pool.wait()
    """

    def __init__(
        self, workloads: Workload | Sequence[Workload], *, dsn: Dsn, name: str = "flowworker", size: int = 1,
        worker: type[Worker] = Worker, restart: Restart | None = None, direct_dsn: Dsn | None = None,
        statement_cache: bool = True, identity: Identity | None = None, events: EventStream | None = None,
        worker_id: UUID | None = None, worker_name: str | None = None, log_payloads: bool = False,
        **options: Unpack[SharedArguments],
    ) -> None:  # fmt: skip
        """Connect to nothing yet.

        Args:
            workloads: flows and queues to serve.
            dsn: a PostgreSQL URI, or a function that gives one and is asked before each connection.
            name: of the pool; one pool of a name per process.
            size: workers for each flow or queue.
            worker: the class of the workers; a subclass of `Worker` may bring its own `perform_work`.
            restart: what to do about a worker that crashed; by default it is started again, always.
            direct_dsn: for the heartbeat, where `dsn` goes through a transaction pooler.
            statement_cache: False behind a transaction pooler.
            identity: where the process runs, for the reports.
            events: receives every event.
            worker_id: of the worker, in a pool of one.
            worker_name: of the worker, in a pool of one, instead of the numbered name.
            log_payloads: let messages quote values of inputs and outputs, for development; once the pool has started
                it holds for all of the process, to its end.
            options: of each worker, see `WorkerOptions`.

        Raises:
            UsageError: an option makes no sense.
        """
        served = tuple(workloads) if isinstance(workloads, Sequence) else (workloads,)
        if not served or size < 1:
            raise UsageError("a pool needs at least one flow or queue, and a size of 1 or more")
        if len(served) * size > 1 and (worker_id is not None or worker_name is not None):
            raise UsageError("worker_id and worker_name are for one worker; this pool has several")
        self._name = name
        self._worker_id = worker_id
        self._restart = restart or Restart()
        self._worker_class = worker
        self._options = options
        self._log_payloads = log_payloads
        self._host = Host(dsn, direct_dsn=direct_dsn, statement_cache=statement_cache, identity=identity, events=events)
        self._places = tuple(
            Place(number=number, workload=workload, name=worker_name or f"{name}_Worker_{number}")
            for number, workload in enumerate((one for one in served for _ in range(size)), start=1)
        )
        self._workers: dict[int, Worker] = {place.number: self._make(place) for place in self._places}
        self._keepers: list[asyncio.Task[Exit]] = []
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._entered = False
        self._exit: Exit | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The pool's name."""
        return self._name

    @property
    def workers(self) -> Sequence[Worker]:
        """The workers now, by number."""
        return tuple(self._workers[place.number] for place in self._places)

    @property
    def events(self) -> EventStream:
        """The stream on which all workers emit their events."""
        return self._host.events

    @property
    def host(self) -> Host:
        """The connections and the heartbeat."""
        return self._host

    def states(self) -> Sequence[WorkerState]:
        """The state of every worker that has started, from any thread."""
        return tuple(worker.state() for worker in self.workers if worker.has_state)

    async def start(self) -> None:
        """Start all workers; when one cannot start, stop the others.

        Raises:
            UsageError: a pool of this name runs in this process.
            FlowWorkerError: what `Worker.start` raises.
        """
        claim_name(self._name)
        self._entered = True
        if self._log_payloads:
            show_payloads(True)
        try:
            await self._host.enter()
            await self._start_workers()
        except BaseException as error:
            await asyncio.gather(*(worker.stop(immediately=True) for worker in self.workers))
            await self._leave(caused_by(error))
            raise
        self._keepers = [
            asyncio.create_task(self._keep(place), name=f"keeper of {place.name}") for place in self._places
        ]
        self._watch = asyncio.create_task(self._await_end(), name=f"end of pool {self._name}")
        self._watch.add_done_callback(self._watch_ended)

    async def stop(self, *, immediately: bool = False) -> None:
        """Stop all workers and return when they have stopped. Safe before `start` and when called again."""
        if not self._entered or self._stopped.is_set():
            return
        self._stopping.set()
        await asyncio.gather(*(worker.stop(immediately=immediately) for worker in self.workers))
        await self._stopped.wait()

    async def wait(self) -> Exit:
        """Return, once all workers have stopped for good, how the pool ended."""
        await self._stopped.wait()
        assert self._exit is not None
        return self._exit

    async def run(self) -> Exit:
        """Start, and return when it has stopped. Raises what `start` raises."""
        await self.start()
        return await self.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if error is None and self._exit is not None and self._exit.error is not None:
            raise self._exit.error

    async def _start_workers(self) -> None:
        """Start all; when some cannot, raise the first error once the others have settled."""
        starts = [asyncio.ensure_future(worker.start()) for worker in self.workers]
        try:
            await asyncio.wait(starts)
        except asyncio.CancelledError:
            for start in starts:
                start.cancel()
            await asyncio.wait(starts)
            raise
        for start in starts:
            start.result()

    def _make(self, place: Place) -> Worker:
        worker_id, self._worker_id = self._worker_id, None  # a restarted worker is another incarnation
        return self._worker_class(
            place.workload, host=self._host, worker_id=worker_id, worker_name=place.name, **self._options
        )

    async def _keep(self, place: Place) -> Exit:
        """Keep a place filled; returns the end of the last worker in it."""
        crashes = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            end = await self._workers[place.number].wait()
            crashes = 1 if loop.time() - began > self._restart.steady_after else crashes + 1
            if end.permanent or self._stopping.is_set() or self._gives_up(crashes):
                return end
            logger.warning("worker %s crashed and is started again: %s", place.name, end.reason)
            again = await self._start_again(place, crashes)
            if again is not None:
                return again

    def _gives_up(self, crashes: int) -> bool:
        return self._restart.attempts is not None and crashes > self._restart.attempts

    async def _start_again(self, place: Place, crashes: int) -> Exit | None:
        """Fill a place anew after a pause; the end if that was not possible."""
        delay = backoff(crashes, random.random, base=self._restart.base, cap=self._restart.cap)
        try:
            async with asyncio.timeout(delay):
                await self._stopping.wait()
            return asked_for("stop requested")
        except TimeoutError:
            self._workers[place.number] = worker = self._make(place)
        try:
            await worker.start()
        except Exception as error:  # noqa: BLE001 - `wait` reports it to the keeper, which decides
            logger.warning("worker %s could not be started again: %s", place.name, error)
        return None

    async def _await_end(self) -> None:
        """End the pool when the last worker has ended, or when one ended in a way that no restart helps."""
        pending = set(self._keepers)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(isinstance(_end_of(keeper).error, SlotsExhaustedError | KeeperEndedError) for keeper in done):
                self._stopping.set()
                await asyncio.gather(*(worker.stop() for worker in self.workers))
        await self._leave(worst(map(_end_of, self._keepers)))

    def _watch_ended(self, watch: "asyncio.Task[None]") -> None:
        """Whatever ended the watch, the workers stop and those who wait for the pool go on."""
        if self._stopped.is_set():
            return
        cause = "it was cancelled from outside" if watch.cancelled() else repr(watch.exception())
        error = KeeperEndedError(f"{watch.get_name()} ended: {cause}")
        self._watch = asyncio.create_task(self._stop_unwatched(caused_by(error)), name=watch.get_name())
        self._watch.add_done_callback(self._watch_ended)

    async def _stop_unwatched(self, end: Exit) -> None:
        self._stopping.set()
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        await self._leave(end)

    async def _leave(self, end: Exit) -> None:
        self._exit = end
        try:
            await self._host.leave()
        finally:
            release_name(self._name)
            self._stopped.set()


def _end_of(keeper: "asyncio.Task[Exit]") -> Exit:
    """How a place ended. A keeper that failed itself watches its worker no more, so the pool has to end."""
    if not keeper.cancelled() and keeper.exception() is None:
        return keeper.result()
    cause = "it was cancelled from outside" if keeper.cancelled() else repr(keeper.exception())
    return caused_by(KeeperEndedError(f"{keeper.get_name()} ended: {cause}"))


def claim_name(name: str) -> None:
    """Take a name.

    Raises:
        UsageError: the name is in use in this process.
    """
    if name in _in_use:
        raise UsageError(f"the name {name!r} is in use in this process; give the pool or worker another one")
    _in_use.add(name)


def release_name(name: str) -> None:
    """Give a name back; unknown names are ignored."""
    _in_use.discard(name)
