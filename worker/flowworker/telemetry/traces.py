"""OpenTelemetry: one span for each attempt of a task.

The extra `otel` brings the libraries; nothing here imports them before tracing is asked for. A span starts with the
handler, which runs inside it, and ends where the handler ended, although it is closed only when the database has
answered. A `traceparent` among a message's headers makes the span a child of the sender's.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from uuid import UUID

import orjson

from flowworker.database.records import ClaimedTask, SourceKind
from flowworker.errors import UsageError
from flowworker.redaction import redact
from flowworker.telemetry import events
from flowworker.telemetry.events import Event, WorkerInfo

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

MISSING_EXTRA = "tracing needs the OpenTelemetry libraries: pip install 'flowworker[otel]'"

Attempt: TypeAlias = tuple[UUID, int, int]
"""Worker, message, attempt."""


class TraceSubscriber:
    """Opens and closes spans as tasks start and end."""

    def __init__(self, tracer: "Tracer", *, now: Callable[[], int] = time.time_ns) -> None:
        """Make spans with the tracer given.

        Args:
            tracer: of any provider; the program that embeds the worker keeps it.
            now: nanoseconds since 1970.

        Raises:
            UsageError: the extra `otel` is not installed.
        """
        self._otel = _load()
        self._tracer = tracer
        self._now = now
        self._open: dict[Attempt, _OpenSpan] = {}

    def __call__(self, event: Event) -> None:
        """Follow one event."""
        match event:
            case events.TaskStarted():
                self._start(event)
            case events.TaskStopped():
                self._end(event, "completed", duration=event.duration)
            case events.TaskFailed():
                self._fail(event)
            case events.TaskSuperseded():
                self._end(event, "superseded", duration=event.duration)
            case events.TaskReleased():
                self._end(event, "released", duration=None)
            case events.WorkerStopped():
                self._abandon(event.worker)
            case _:
                pass

    def _start(self, event: events.TaskStarted) -> None:
        started_at = self._now()
        span = self._tracer.start_span(
            f"process {event.worker.slug}"
            if event.task.run_id is None
            else f"{event.worker.slug} {event.task.step_slug}",
            context=self._otel.parent(event.task.headers),
            kind=self._otel.consumer,
            attributes=attributes_of(event.worker, event.task),
            start_time=started_at,
        )
        self._otel.enter(span)
        self._open[_key(event.worker, event.task)] = _OpenSpan(span, started_at)

    def _fail(self, event: events.TaskFailed) -> None:
        opened = self._open.get(_key(event.worker, event.task))
        if opened is None:
            return
        message = redact(event.failure.message)
        details = {"exception.type": event.failure.kind.value, "exception.message": message}
        if event.failure.stacktrace is not None:
            details["exception.stacktrace"] = redact(event.failure.stacktrace)
        opened.span.add_event("exception", details, timestamp=opened.after(event.duration))
        opened.span.set_status(self._otel.error, message)
        if event.retry_in is not None:
            opened.span.set_attribute("flowworker.retry_in", event.retry_in)
        self._end(event, "failed", duration=event.duration)

    def _end(
        self,
        event: events.TaskStopped | events.TaskFailed | events.TaskSuperseded | events.TaskReleased,
        outcome: str,
        *,
        duration: float | None,
    ) -> None:
        opened = self._open.pop(_key(event.worker, event.task), None)
        if opened is not None:
            opened.span.set_attribute("flowworker.outcome", outcome)
            opened.span.end(self._now() if duration is None else opened.after(duration))

    def _abandon(self, worker: WorkerInfo) -> None:
        """Close what a stopped worker left open, so that nothing piles up in a process that starts many."""
        for key in [key for key in self._open if key[0] == worker.worker_id]:
            self._open.pop(key).span.end(self._now())


class _OpenSpan:
    __slots__ = ("span", "started_at")

    def __init__(self, span: "Span", started_at: int) -> None:
        self.span = span
        self.started_at = started_at

    def after(self, duration: float) -> int:
        """The moment `duration` seconds after the start, in nanoseconds since 1970."""
        return self.started_at + round(duration * 1e9)


class _Libraries:
    """The few things of OpenTelemetry's API that spans of tasks need."""

    def __init__(self) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.consumer = trace.SpanKind.CONSUMER
        self.error = trace.StatusCode.ERROR
        self._trace = trace
        self._context = context
        self._propagator = TraceContextTextMapPropagator()

    def parent(self, headers: bytes | None) -> Any:
        """Context of the sender; an empty one when the message carries none."""
        return self._propagator.extract(trace_headers(headers), context=self._context.Context())

    def enter(self, span: "Span") -> None:
        """Make the span the current one of the handler's context, which ends with the handler: no code detaches it."""
        self._context.attach(self._trace.set_span_in_context(span))


def trace_headers(headers: bytes | None) -> dict[str, str]:
    """`traceparent` and `tracestate` among a message's headers, where they are there and are text."""
    if headers is None or b"traceparent" not in headers:
        return {}
    try:
        found: object = orjson.loads(headers)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(found, dict):
        return {}
    fields = cast(dict[str, object], found)
    return {name: value for name in ("traceparent", "tracestate") if isinstance(value := fields.get(name), str)}


def attributes_of(worker: WorkerInfo, task: ClaimedTask) -> dict[str, str | int]:
    """Attributes of a task's span; the `messaging.*` ones follow OpenTelemetry's conventions."""
    attributes: dict[str, str | int] = {
        "messaging.system": "pgmq",
        "messaging.operation.type": "process",
        "messaging.destination.name": worker.slug,
        "messaging.message.id": str(task.msg_id),
        "flowworker.worker_id": str(worker.worker_id),
        "flowworker.attempt": task.attempt,
        "flowworker.max_attempts": task.max_attempts,
    }
    if worker.kind is SourceKind.FLOW:
        attributes |= {
            "flowworker.flow": worker.slug,
            "flowworker.run_id": str(task.run_id),
            "flowworker.step": task.step_slug,
            "flowworker.task_index": task.task_index,
        }
    return attributes


def otlp_provider(service_name: str = "flowworker") -> "TracerProvider":
    """A provider that sends spans over OTLP/HTTP, configured by the standard OTEL_* variables.

    Its `get_tracer("flowworker")` is what TraceSubscriber takes; its `shutdown()` sends what is left and may take
    seconds.

    Args:
        service_name: used unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES name another.

    Raises:
        UsageError: the extra `otel` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise UsageError(MISSING_EXTRA) from error
    named = Resource({SERVICE_NAME: service_name}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _load() -> _Libraries:
    try:
        return _Libraries()
    except ImportError as error:
        raise UsageError(MISSING_EXTRA) from error


def _key(worker: WorkerInfo, task: ClaimedTask) -> Attempt:
    return worker.worker_id, task.msg_id, task.attempt
