"""Prometheus metrics: a subscriber that counts the events, and gauges read from the workers when someone asks.

Children are bound once for each step, queue or connection, so a counted event costs a dictionary look-up and an
increment. A scrape runs in the probe's thread and reads only what the callable given returns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TypeAlias, assert_never

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from flowworker.database.records import ClaimedTask, RunStatus
from flowworker.telemetry import events
from flowworker.telemetry import metric_list as listed
from flowworker.telemetry.collectors import DroppedEventsCollector, WorkerGauges, WorkersCollector
from flowworker.telemetry.events import Event, WorkerInfo

CONNECTIONS = ("claim", "finish", "beat", "pulse")

Step: TypeAlias = tuple[str, str, str]
Work: TypeAlias = tuple[str, str]


class MetricsSubscriber:
    """Keeps the metrics of all workers of a process in one registry."""

    def __init__(
        self,
        registry: CollectorRegistry,
        workers: Callable[[], Sequence[WorkerGauges]] = tuple,
        *,
        dropped: Callable[[], Mapping[str, int]] = dict[str, int],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Register every metric.

        Args:
            registry: where the metrics go; one subscriber per registry.
            workers: called by every scrape, from another thread, for the gauges. Must not wait for the event loop.
            dropped: the stream's `dropped`, called by every scrape likewise.
            clock: the wall clock, compared with the enqueueing time of a queue's jobs.

        Raises:
            ValueError: the registry holds these metrics already.
        """
        self._tasks = _TaskMetrics(registry, clock)
        self._polls = _PollMetrics(registry)
        self._runs = _RunMetrics(registry)
        self._trouble = _TroubleMetrics(registry)
        registry.register(WorkersCollector(workers))
        registry.register(DroppedEventsCollector(dropped))
        ProcessCollector(registry=registry)
        listed.BUILD_INFO.on(registry).labels(version("flowworker")).set(1)

    def __call__(self, event: Event) -> None:
        """Count one event."""
        match event:
            case events.TaskStarted() | events.TaskStopped() | events.TaskFailed():
                self._tasks.count(event)
            case events.TaskReleased() | events.TaskSuperseded():
                self._tasks.count(event)
            case events.PollStopped():
                self._polls.count(event)
            case events.RunStarted() | events.RunCompleted() | events.RunFailed():
                self._runs.count(event)
            case events.LoopBlocked() | events.WorkerLost() | events.DatabaseDown() | events.DatabaseUp():
                self._trouble.count(event)
            case events.WorkerStarted():
                self._trouble.begin()
            case events.PollStarted() | events.LifecycleChanged() | events.WorkerStopped():
                pass  # Shown by the gauges.
            case _:
                assert_never(event)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StepChildren:
    started: Counter
    completed: Counter
    released: Counter
    superseded: Counter
    refused: Counter
    duration: Histogram
    wait: Histogram


class _TaskMetrics:
    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._started = listed.TASKS_STARTED.on(registry)
        self._completed = listed.TASKS_COMPLETED.on(registry)
        self._failed = listed.TASKS_FAILED.on(registry)
        self._released = listed.TASKS_RELEASED.on(registry)
        self._superseded = listed.TASKS_SUPERSEDED.on(registry)
        self._refused = listed.RESULTS_REFUSED.on(registry)
        self._duration = listed.TASK_DURATION.on(registry)
        self._wait = listed.TASK_WAIT.on(registry)
        self._children = cache(self._bind)

    def _bind(self, *step: str) -> _StepChildren:
        return _StepChildren(
            started=self._started.labels(*step),
            completed=self._completed.labels(*step),
            released=self._released.labels(*step),
            superseded=self._superseded.labels(*step),
            refused=self._refused.labels(*step),
            duration=self._duration.labels(*step),
            wait=self._wait.labels(*step),
        )

    def count(
        self,
        event: events.TaskStarted
        | events.TaskStopped
        | events.TaskFailed
        | events.TaskReleased
        | events.TaskSuperseded,
    ) -> None:
        step = _step(event.worker, event.task.step_slug)
        children = self._children(*step)
        match event:
            case events.TaskStarted():
                children.started.inc()
                if is_first_start(event.task):
                    children.wait.observe(waited(event.task, self._clock))
            case events.TaskStopped():
                children.completed.inc()
                children.duration.observe(event.duration)
            case events.TaskFailed():
                final = "true" if event.retry_in is None else "false"
                self._failed.labels(*step, event.failure.kind.value, final).inc()
                children.duration.observe(event.duration)
            case events.TaskReleased():
                children.released.inc()
                children.refused.inc(event.refused)
            case events.TaskSuperseded():
                children.superseded.inc()
            case _:
                assert_never(event)


def is_first_start(task: ClaimedTask) -> bool:
    """Whether the wait of a task means anything: a retry's message is as old as its first attempt."""
    return task.attempt == 1 and task.losses == 0 and task.read_count <= 1


def waited(task: ClaimedTask, clock: Callable[[], datetime]) -> float:
    """Seconds from enqueueing to start; never negative, whatever the clocks say."""
    started = task.started_at if task.started_at is not None else clock()
    return max((started - task.enqueued_at).total_seconds(), 0.0)


class _PollMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        duration = listed.POLL_DURATION.on(registry)
        tasks = listed.POLL_TASKS.on(registry)
        unstartable = listed.UNSTARTABLE.on(registry)

        @cache
        def children(*work: str) -> tuple[Histogram, Histogram, Counter]:
            return duration.labels(*work), tasks.labels(*work), unstartable.labels(*work)

        self._children = children

    def count(self, event: events.PollStopped) -> None:
        duration, tasks, unstartable = self._children(*_work(event.worker))
        duration.observe(event.duration)
        tasks.observe(event.task_count)
        if event.unstartable:
            unstartable.inc(event.unstartable)


class _RunMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = listed.RUNS_STARTED.on(registry)
        ended = listed.RUNS_ENDED.on(registry)
        duration = listed.RUN_DURATION.on(registry)

        @cache
        def children(*run: str) -> tuple[Counter, Histogram]:
            return ended.labels(*run), duration.labels(*run)

        self._children = children

    def count(self, event: events.RunStarted | events.RunCompleted | events.RunFailed) -> None:
        match event:
            case events.RunStarted():
                self._started.labels(event.flow_slug).inc()
            case events.RunCompleted():
                self._end(event, RunStatus.COMPLETED)
            case events.RunFailed():
                self._end(event, RunStatus.FAILED)
            case _:
                assert_never(event)

    def _end(self, event: events.RunCompleted | events.RunFailed, status: RunStatus) -> None:
        ended, duration = self._children(event.flow_slug, status.value)
        ended.inc()
        duration.observe(event.duration)


class _TroubleMetrics:
    """What should not happen often; its children need no binding."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._blocked = listed.LOOP_BLOCKED.on(registry)
        self._blocked_seconds = listed.LOOP_BLOCKED_SECONDS.on(registry)
        self._up = listed.DATABASE_UP.on(registry)
        self._lost = listed.DATABASE_LOST.on(registry)
        self._workers_lost = listed.WORKERS_LOST.on(registry)
        self._recovered = listed.TASKS_RECOVERED.on(registry)
        self._last_block: dict[Step, float] = {}
        self._down: set[str] = set()
        for connection in CONNECTIONS:
            self._up.labels(connection).set(0)

    def begin(self) -> None:
        """A worker that has started has used its connections, so those not reported down work."""
        for connection in set(CONNECTIONS) - self._down:
            self._up.labels(connection).set(1)

    def count(self, event: events.LoopBlocked | events.WorkerLost | events.DatabaseDown | events.DatabaseUp) -> None:
        match event:
            case events.LoopBlocked():
                self._block(_step(event.worker, event.step_slug), event.blocked_for)
            case events.WorkerLost():
                work = _work(event.worker)
                self._workers_lost.labels(*work).inc()
                self._recovered.labels(*work, "released").inc(event.released)
                self._recovered.labels(*work, "failed").inc(event.failed)
            case events.DatabaseDown():
                self._fall(event.connection)
            case events.DatabaseUp():
                self._down.discard(event.connection)
                self._up.labels(event.connection).set(1)
            case _:
                assert_never(event)

    def _block(self, step: Step, blocked_for: float) -> None:
        """Reports of one block grow; a smaller figure than the last is a new block."""
        before = self._last_block.get(step, 0.0)
        self._last_block[step] = blocked_for
        if blocked_for <= before or before == 0.0:
            self._blocked.labels(*step).inc()
            before = 0.0
        self._blocked_seconds.labels(*step).inc(blocked_for - before)

    def _fall(self, connection: str) -> None:
        """All workers of a process share a connection and each may report it; one fall counts once."""
        if connection not in self._down:
            self._down.add(connection)
            self._lost.labels(connection).inc()
            self._up.labels(connection).set(0)


def _work(worker: WorkerInfo) -> Work:
    return worker.kind.value, worker.slug


def _step(worker: WorkerInfo, step_slug: str) -> Step:
    return worker.kind.value, worker.slug, step_slug
