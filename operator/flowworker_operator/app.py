"""The composition root: makes every part, starts them in order, and stops them in order.

Until SIGTERM or SIGINT. Then nothing new begins, rounds under way are cut short (every step of theirs may be the last),
the connections to databases are closed, and the Lease is given back last, when nothing of ours writes any more.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from flowworker.errors import ExitCode, InternalError
from flowworker_operator.api.status import Installation
from flowworker_operator.apply import PlanApplier
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.errors import ClusterError, Unavailable
from flowworker_operator.cluster.events import EventRecorder
from flowworker_operator.cluster.leadership import Leadership
from flowworker_operator.cluster.resources import FLOWWORKERS, PODS, Object, Resource
from flowworker_operator.database import Databases, Key
from flowworker_operator.database.hosts import known_hosts
from flowworker_operator.database_writes import DatabaseWrites
from flowworker_operator.departures import Departures
from flowworker_operator.handlers import WATCHED, Watches
from flowworker_operator.health import HealthServer, Pulse
from flowworker_operator.leader_gate import LeaderGate
from flowworker_operator.metrics import Metrics
from flowworker_operator.pod_events import PodEvents
from flowworker_operator.readable_scopes import ReadableScopes, complaint
from flowworker_operator.reconcile import Reconciler
from flowworker_operator.relist import Relister
from flowworker_operator.rivals import Rivals
from flowworker_operator.secrets import Secrets
from flowworker_operator.settings import Settings
from flowworker_operator.store import Store, owner_or_self
from flowworker_operator.workqueue import WorkQueue

STOP_PATIENCE = 2.0
"""Seconds that each part gets to end."""

logger = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    store: Store
    departures: Departures
    queue: WorkQueue[Key]
    database_writes: DatabaseWrites
    reconciler: Reconciler
    relister: Relister
    readable: ReadableScopes
    watches: Watches
    leadership: Leadership
    leader_gate: LeaderGate

    def pulse(self) -> Pulse:
        return Pulse(
            stuck_for=self.queue.stuck_for,
            blind_for=self.relister.blind_for,
            unwatched_for=self.watches.unwatched_for,
            watching=self.watches.running,
            synced=self.readable.tried,
            able=self.readable.able,
            barred=tuple(complaint(scope, error) for scope, error in self.readable.barred.items()),
        )


async def run(settings: Settings) -> ExitCode:
    """Run the operator until SIGTERM or SIGINT.

    Raises:
        UsageError: no way to the API server is configured, or the port cannot be used.
        InternalError: a part of the operator ended by itself.
    """
    stopped = _signalled()
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    async with _parts(settings, metrics) as parts:
        server = HealthServer(port=settings.http_port, pulse=parts.pulse, registry=registry)
        await server.start()
        logger.info("started", port=server.port, namespaces=settings.namespace_list or "all")
        try:
            await _until_stopped(parts, stopped)
        finally:
            await server.stop()
    logger.info("stopped")
    return ExitCode.DRAINED


@asynccontextmanager
async def _parts(settings: Settings, metrics: Metrics) -> AsyncGenerator[_Parts]:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster.connect(settings.kubeconfig, metrics.request))
        recorder = await stack.enter_async_context(EventRecorder(cluster, instance=settings.identity, wall=cluster.now))
        stack.push_async_callback(recorder.close, STOP_PATIENCE)
        parts, databases, secrets = _assemble(settings, metrics, cluster, recorder)
        stack.push_async_callback(_close, parts.database_writes, databases)
        stack.push_async_callback(secrets.close)
        yield parts


async def _close(database_writes: DatabaseWrites, databases: Databases) -> None:
    """A database that does not answer must not hold up the end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_PATIENCE):
            await database_writes.close()
            await databases.close()


def _assemble(
    settings: Settings, metrics: Metrics, cluster: Cluster, recorder: EventRecorder
) -> tuple[_Parts, Databases, Secrets]:
    store, clock, readable = Store(), time.monotonic, ReadableScopes(settings.namespace_list, WATCHED)
    leadership = Leadership(
        cluster,
        namespace=settings.lease_namespace,
        name=settings.lease_name,
        identity=settings.identity,
        able=lambda: readable.able or not readable.tried,
    )

    async def round_of(key: Key) -> float | None:
        return await parts.reconciler.round(key)

    queue: WorkQueue[Key] = WorkQueue(
        round_of,
        random=random.random,
        clock=clock,
        group=lambda key: key.namespace,
        on_error=_complain,
        least_pause=_asked_pause,
    )
    secrets = Secrets(cluster, clock, queue.add)
    databases = Databases(clock=clock, on_reading=queue.add, known=known_hosts(settings.database_host_list))
    relister = Relister(
        cluster=cluster,
        store=store,
        readable=readable,
        selectors=WATCHED,
        metrics=metrics,
        every=settings.relist_seconds,
        clock=clock,
        random=random.random,
        changed=queue.add,
    )

    async def refresh() -> None:
        await relister.once(strict=True)
        for key in store.keys(FLOWWORKERS):
            queue.add(key)

    departures = Departures(clock)
    leader_gate = LeaderGate(leadership, refresh, lambda: readable.able)
    database_writes = DatabaseWrites(databases=databases, may_write=lambda: leader_gate.acting, on_result=queue.add)
    parts = _Parts(
        store=store,
        departures=departures,
        queue=queue,
        database_writes=database_writes,
        reconciler=Reconciler(
            store=store,
            secrets=secrets,
            databases=databases,
            pod_events=PodEvents(cluster, clock),
            departures=departures,
            database_writes=database_writes,
            applier=PlanApplier(
                cluster=cluster,
                store=store,
                database_writes=database_writes,
                may_write=lambda: leader_gate.acting,
                clock=clock,
            ),
            recorder=recorder,
            metrics=metrics,
            readable=readable,
            installations=Rivals(
                me=Installation(
                    release=f"{settings.lease_namespace}/{settings.lease_name}", version=version("flowworker")
                ),
                cluster=cluster,
                store=store,
                recorder=recorder,
                may_write=lambda: leader_gate.acting,
                clock=clock,
            ),
            leads=lambda: leader_gate.acting,
            clock=clock,
            wall=cluster.now,
        ),
        relister=relister,
        readable=readable,
        watches=Watches(
            readable=readable,
            kubeconfig=settings.kubeconfig,
            deliver=lambda resource, kind, item: _deliver(parts, resource, kind, item),
            interrupted=relister.soon,
            clock=clock,
        ),
        leadership=leadership,
        leader_gate=leader_gate,
    )
    metrics.watch(waiting=lambda: queue.depth, stuck=lambda: queue.stuck_for, leader=lambda: leader_gate.acting)
    return parts, databases, secrets


def _deliver(parts: _Parts, resource: Resource, kind: str | None, item: Object) -> None:
    """Take over the object of a watch event."""
    parts.relister.delivered(resource)
    key = owner_or_self(resource, item)
    if kind == "DELETED":
        if parts.store.remove(resource, item) and resource == PODS:
            parts.departures.deleted(key, item)
    elif not parts.store.put(resource, item):
        return
    parts.queue.add(key)


async def _until_stopped(parts: _Parts, stopped: asyncio.Event) -> None:
    """Run everything until it is asked to stop; all parts that write end before the Lease is released."""
    leading = asyncio.create_task(parts.leadership.run(), name="leadership")
    working = [
        asyncio.create_task(part, name=name)
        for name, part in {
            "leader gate": parts.leader_gate.run(),
            "relist": _relist(parts),
            "rounds": parts.queue.run(),
        }.items()
    ]
    signalled = asyncio.create_task(stopped.wait(), name="signal")
    try:
        done, _ = await asyncio.wait((leading, *working, signalled), return_when=asyncio.FIRST_COMPLETED)
        for task in done - {signalled}:
            raise InternalError(f"{task.get_name()} ended by itself: {task.exception()}") from task.exception()
    finally:
        await _stop((signalled, *working))
        await _stop((leading,))


async def _relist(parts: _Parts) -> None:
    """The watches begin when the first lists have shown what there is to watch."""
    async with asyncio.TaskGroup() as both:
        both.create_task(parts.relister.run())
        await parts.relister.wait_listed()
        both.create_task(parts.watches.run())


async def _stop(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    _, late = await asyncio.wait(tasks, timeout=STOP_PATIENCE)
    for task in late:
        logger.warning("a part does not end", part=task.get_name())


def _complain(key: Key, error: Exception) -> None:
    names = {"namespace": key.namespace, "flowworker": key.name}
    if isinstance(error, ClusterError):
        logger.warning("a round failed and is tried again", **names, error=str(error))
    else:
        logger.error("a round failed and is tried again", **names, exc_info=error)


def _asked_pause(error: Exception) -> float:
    return error.retry_after or 0.0 if isinstance(error, Unavailable) else 0.0


def _signalled() -> asyncio.Event:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped
