"""What a worker reports to the database and shows of itself: values made of its parts."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version

from flowworker.database.flow_tasks import GRACE
from flowworker.database.heartbeat import LONGEST_ERROR, MOST_CHANGES, Report
from flowworker.database.queue_jobs import LEASE
from flowworker.database.records import SourceKind
from flowworker.option_change import OptionChange
from flowworker.redaction import redact
from flowworker.runtime.host import Host
from flowworker.runtime.lifecycle import Lifecycle
from flowworker.runtime.loops.session import WorkerSession
from flowworker.runtime.loops.settlement import Counters
from flowworker.runtime.state import WorkerState, active_task
from flowworker.runtime.workload import Workload
from flowworker.worker_options import WorkerOptions


@cache
def package_version() -> str:
    """The version of this package."""
    return version("flowworker")


def make_report(
    session: WorkerSession, *, host: Host, options: WorkerOptions, counters: Counters, lifecycle: Lifecycle,
    option_changes: Sequence[OptionChange], now: float,
) -> Report:  # fmt: skip
    """The row of one worker at monotonic `now`; made in the heartbeat's thread."""
    identity, source, error = host.identity, session.source, counters.last_error
    return Report(
        worker_id=session.worker_id,
        boot_id=host.boot_id,
        kind=source.kind,
        slug=source.slug,
        queue_name=source.queue_name,
        worker_name=session.info.worker_name,
        version=package_version(),
        state=reported_state(lifecycle, session.held_tasks.unsettled),
        in_flight=session.held_tasks.in_flight,
        slots=options.max_concurrency,
        completed=counters.completed,
        failed=counters.failed,
        last_error=None if error is None else redact(error, limit=LONGEST_ERROR),
        longest_timeout=session.job_timeout,
        namespace=identity.namespace,
        flowworker=identity.flowworker,
        pod_name=identity.pod_name,
        pod_uid=identity.pod_uid,
        revision=identity.revision,
        begun_at=session.begun_at,
        unwritten_for=_age(session.completer.oldest_unwritten, now),
        unclaimed_for=_age(session.poller.wanting_since, now),
        doubts=session.doubts,
        network_namespace=host.heartbeat.network_namespace,
        option_changes=option_changes[:MOST_CHANGES] if source.kind is SourceKind.FLOW else None,
    )


def make_state(
    session: WorkerSession, *, workload: Workload, host: Host, options: WorkerOptions, counters: Counters,
    lifecycle: Lifecycle, reason: str, option_changes: Sequence[OptionChange], now: float,
) -> WorkerState:  # fmt: skip
    """Everything worth showing at monotonic `now`; safe in any thread."""
    source, held_tasks = session.source, session.held_tasks
    return WorkerState(
        workload=workload,
        kind=source.kind,
        slug=source.slug,
        queue_name=source.queue_name,
        worker_id=session.worker_id,
        worker_name=session.info.worker_name,
        lifecycle=lifecycle,
        reason=reason,
        option_changes=tuple(map(str, option_changes)),
        drained=lifecycle is Lifecycle.DRAINING and held_tasks.unsettled == 0,
        max_concurrency=options.max_concurrency,
        batch_size=options.batch_size,
        visibility_timeout=float(LEASE if source.kind is SourceKind.QUEUE else GRACE),
        signal=session.wakeup.state(),
        active_tasks=tuple(active_task(held_task, now) for held_task in held_tasks.all()),
        in_flight=held_tasks.in_flight,
        free_slots=held_tasks.free,
        unwritten_results=session.completer.unwritten,
        counters=replace(counters),
        unwritten_for=_age(session.completer.oldest_unwritten, now),
        unclaimed_for=_age(session.poller.last_claim, now),
        wanting_for=_age(session.poller.wanting_since, now),
        doubts=session.doubts,
        beat_age=host.heartbeat.beat_age,
        loop_blocked_for=host.heartbeat.blocked_for,
    )


def reported_state(lifecycle: Lifecycle, unsettled: int) -> str:
    """The life cycle in the words of flowworker.workers."""
    match lifecycle:
        case Lifecycle.CREATED:
            return "starting"
        case Lifecycle.DRAINING if unsettled == 0:
            return "drained"
        case _:
            return lifecycle.value


def _age(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, now - moment)
