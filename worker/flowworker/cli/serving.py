"""The composition root of a worker process: from settings to workers, with everything that watches them."""

import asyncio
import logging
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from flowworker.cli.looping import run_to_end
from flowworker.cli.process_end import end_in_time, ignore_stop_signals
from flowworker.definition.loading import Workload, slug_of
from flowworker.errors import ExitCode, UsageError
from flowworker.runtime.exits import Exit, caused_by
from flowworker.runtime.host import Identity
from flowworker.runtime.malloc import MemoryTrimmer, system_trim
from flowworker.runtime.pool import WorkerPool
from flowworker.runtime.service import LoopEndedError
from flowworker.runtime.signals import stop_on_signals
from flowworker.settings import Settings, misspelt
from flowworker.telemetry.logs import LogSubscriber, configure_logging
from flowworker.telemetry.stream import EventStream

logger = logging.getLogger(__name__)

TRACES_TIMEOUT = 1.0
"""Seconds that the last traces get at the end of the process."""

HURRIED_TIMEOUT = 4.5
"""Seconds from a second signal to the end of the process; five are promised."""


def serve_until_stopped(workloads: Sequence[Workload], settings: Settings) -> Exit:
    """Run workers on an event loop of their own until they have stopped.

    Raises:
        FlowWorkerError: they could not start.
    """
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    for warning in misspelt(os.environ):
        logger.warning(warning)
    return run_to_end(serve(workloads, settings))


async def serve(workloads: Sequence[Workload], settings: Settings) -> Exit:
    """Run workers, with logs, metrics, traces, probes and signals, until they have stopped.

    Raises:
        FlowWorkerError: they could not start.
    """
    events = EventStream()
    pool = make_pool(workloads, settings, events)
    events.subscribe(LogSubscriber())
    events.subscribe(MemoryTrimmer(system_trim()))
    try:
        with stop_on_signals(pool, on_hurry=_end_soon), _traces(settings, events), _probes(settings, pool):
            return await _run(pool)
    finally:
        ignore_stop_signals()


def _end_soon() -> None:
    """A second signal promises an end within five seconds, also where the database swallows every word."""
    end_in_time(ExitCode.DRAINED, timeout=HURRIED_TIMEOUT)


async def _run(pool: WorkerPool) -> Exit:
    """Run workers until they have stopped; the process then has little time left."""
    try:
        end = await pool.run()
    except asyncio.CancelledError:  # by a handler that cancels every task there is
        await pool.stop(immediately=True)
        end = caused_by(LoopEndedError("the main task was cancelled from outside"))
    except Exception as error:
        end_in_time(caused_by(error).code)
        raise
    end_in_time(end.code)
    return end


def make_pool(workloads: Sequence[Workload], settings: Settings, events: EventStream) -> WorkerPool:
    """One worker for each flow and queue.

    Raises:
        UsageError: an id or a name of one worker for several, or an option makes no sense.
    """
    several = len(workloads) > 1
    if several and settings.worker_id is not None:
        raise UsageError("--worker-id names one worker, and several flows or queues need one each; leave it out")

    def direct_dsn() -> str:
        return settings.direct_dsn() or settings.dsn()

    # Errors in them are raised now; later they are read before each connection, to follow a rotated secret.
    for read in (settings.dsn, direct_dsn):
        read()
    return WorkerPool(
        workloads, name=(settings.worker_name or "flowworker") if several else slug_of(workloads[0]),
        worker_id=settings.worker_id, worker_name=None if several else settings.worker_name,
        dsn=settings.dsn, direct_dsn=direct_dsn if settings.direct_dsn() else None,
        statement_cache=settings.statement_cache, identity=_identity(settings), events=events,
        log_payloads=settings.log_payloads, **settings.of_each_worker(),
    )  # fmt: skip


@contextmanager
def _probes(settings: Settings, pool: WorkerPool) -> Generator[None]:
    """Without a port nothing reads probes or metrics, so nothing of them is imported and no event is counted."""
    if settings.probe_port is None:
        yield
        return
    from flowworker.cli.probing import probe_server

    server = probe_server(settings, settings.probe_port, pool)
    server.start()
    logger.info("probes and metrics on port %d", server.port)
    try:
        yield
    finally:
        server.stop()


@contextmanager
def _traces(settings: Settings, events: EventStream) -> Generator[None]:
    if not settings.traces:
        yield
        return
    from flowworker.telemetry.traces import TraceSubscriber, otlp_provider

    provider = otlp_provider()
    events.subscribe(TraceSubscriber(provider.get_tracer("flowworker")))
    try:
        yield
    finally:
        # Sends what is left; a collector that does not answer would keep it for half a minute.
        last = threading.Thread(target=provider.shutdown, name="last traces", daemon=True)
        last.start()
        last.join(TRACES_TIMEOUT)


def _identity(settings: Settings) -> Identity:
    return Identity(
        namespace=settings.namespace,
        flowworker=settings.name,
        pod_name=settings.pod_name,
        pod_uid=settings.pod_uid,
        revision=settings.revision,
    )
