"""What a worker process answers to probes and scrapes."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from flowworker.probes import Health, ProbeServer
from flowworker.runtime.host import Host
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.runtime.pool import WorkerPool
from flowworker.runtime.state import WorkerState
from flowworker.settings import Settings
from flowworker.telemetry.metrics import MetricsSubscriber, WorkerGauges

READY = frozenset({Lifecycle.RUNNING, Lifecycle.DRAINING})

UNWRITTEN_LIMIT = 60.0
"""Age in seconds of an unwritten result from which on a worker is not ready: the database does not take it."""

UNCLAIMED_LIMIT = 60.0
"""Seconds without an answer to a claim that is wanted, from which on a worker is not ready."""


def probe_server(settings: Settings, port: int, pool: WorkerPool) -> ProbeServer:
    """The server of a pool's probes, and of metrics that count its events from now on."""
    registry = CollectorRegistry()
    pool.events.subscribe(
        MetricsSubscriber(
            registry, lambda: [gauges(state) for state in pool.states()], dropped=lambda: pool.events.dropped
        )
    )
    return ProbeServer(
        host=settings.probe_host,
        port=port,
        live=lambda: liveness(pool.host),
        ready=lambda: readiness(pool.states(), len(pool.workers)),
        state=pool.states,
        registry=registry,
        expose_state=settings.expose_state,
    )


def gauges(state: WorkerState) -> WorkerGauges:
    """What the metrics show of a worker."""
    return WorkerGauges(
        kind=state.kind,
        slug=state.slug,
        state=state.lifecycle,
        in_flight=state.in_flight,
        slots=state.max_concurrency,
        heartbeat_age=state.beat_age,
        unwritten_age=state.unwritten_for,
        claim_age=state.unclaimed_for,
        doubts=state.doubts,
    )


def readiness(states: Sequence[WorkerState], expected: int) -> Health:
    """Ready: every worker is registered, has not begun to stop, and the database takes its claims and its results."""
    if len(states) < expected:
        return Health(ok=False, reason=f"{len(states)} of {expected} workers have started")
    reasons = [f"{state.worker_name} {trouble}" for state in states if (trouble := _trouble(state)) is not None]
    if reasons:
        return Health(ok=False, reason="; ".join(reasons))
    return Health(ok=True, reason=f"{expected} started and registered")


def _trouble(state: WorkerState) -> str | None:
    """Why a worker is not ready."""
    if state.lifecycle not in READY:
        return f"is {state.lifecycle}"
    if state.unwritten_for is not None and state.unwritten_for > UNWRITTEN_LIMIT:
        return f"holds a result that has not been written for {state.unwritten_for:.0f} s"
    wants = state.lifecycle is Lifecycle.RUNNING and state.free_slots > 0
    if wants and state.wanting_for is not None and state.wanting_for > UNCLAIMED_LIMIT:
        return f"has claimed in vain for {state.wanting_for:.0f} s"
    return None


def liveness(host: Host) -> Health:
    """Alive: the thread of the heartbeat, which no handler can delay, still runs."""
    alive = host.heartbeat.alive
    return Health(ok=alive, reason="the heartbeat runs" if alive else "the heartbeat has ended")
