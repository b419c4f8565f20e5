"""Spans: one for each attempt, around the handler, below the sender's span."""

import builtins
import contextvars
import subprocess
import sys
from typing import Any

import orjson
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from tests.unit.telemetry.samples import (
    ALL_EVENTS,
    QUEUE_WORKER,
    RUN_ID,
    STARTED,
    STOPPED,
    WORKER,
    flow_task,
    job,
    task_failed,
)

from flowworker.errors import UsageError
from flowworker.telemetry import events
from flowworker.telemetry.traces import TraceSubscriber, otlp_provider, trace_headers

SECOND = 1_000_000_000
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Recorder:
    """A subscriber with a clock of its own and the spans it has finished."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.now = 100 * SECOND
        self.tracer = provider.get_tracer("test")
        self.subscriber = TraceSubscriber(self.tracer, now=lambda: self.now)

    def record(self, *given: events.Event) -> None:
        """Emit as a worker does: each start in a context of its own."""
        for event in given:
            contextvars.copy_context().run(self.subscriber, event)

    def span(self) -> ReadableSpan:
        (span,) = self._exporter.get_finished_spans()
        return span


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_a_completed_task_is_one_span_that_names_flow_step_and_run(recorder: Recorder) -> None:
    recorder.record(STARTED, STOPPED)
    span = recorder.span()
    assert span.name == "site_report fetch"
    assert span.kind is SpanKind.CONSUMER
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "messaging.system": "pgmq",
        "messaging.operation.type": "process",
        "messaging.destination.name": "site_report",
        "messaging.message.id": "7",
        "flowworker.worker_id": str(WORKER.worker_id),
        "flowworker.flow": "site_report",
        "flowworker.run_id": str(RUN_ID),
        "flowworker.step": "fetch",
        "flowworker.task_index": 3,
        "flowworker.attempt": 1,
        "flowworker.max_attempts": 3,
        "flowworker.outcome": "completed",
    }


def test_a_span_ends_with_the_handler_although_the_database_answers_later(recorder: Recorder) -> None:
    recorder.record(STARTED)
    recorder.now += 60 * SECOND
    recorder.record(STOPPED)
    assert recorder.span().start_time == 100 * SECOND
    assert recorder.span().end_time == 100 * SECOND + SECOND // 4


def test_a_failed_attempt_is_an_error_with_the_exception(recorder: Recorder) -> None:
    recorder.record(STARTED, task_failed(retry_in=4.0))
    span = recorder.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "ValueError: no such page"
    (exception,) = span.events
    assert exception.name == "exception"
    assert dict(exception.attributes or {}) == {
        "exception.type": "exception",
        "exception.message": "ValueError: no such page",
        "exception.stacktrace": "Traceback (most recent call last):\n  ValueError: no such page",
    }
    assert (span.attributes or {})["flowworker.retry_in"] == 4.0


def test_no_password_gets_into_a_span(recorder: Recorder) -> None:
    recorder.record(STARTED, task_failed(message="postgres://u:hunter2@h/d", stacktrace="password=hunter2"))
    assert "hunter2" not in recorder.span().to_json()


def test_a_job_span_names_the_queue(recorder: Recorder) -> None:
    recorder.record(
        events.TaskStarted(worker=QUEUE_WORKER, task=job()),
        events.TaskStopped(worker=QUEUE_WORKER, task=job(), duration=1.0, output=b"null"),
    )
    span = recorder.span()
    assert span.name == "process mail"
    assert "flowworker.run_id" not in (span.attributes or {})


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (events.TaskReleased(worker=WORKER, task=flow_task(), reason="shutdown"), "released"),
        (events.TaskSuperseded(worker=WORKER, task=flow_task(), duration=1.0), "superseded"),
    ],
)
def test_a_task_that_ends_otherwise_ends_its_span_without_an_error(
    event: events.Event, outcome: str, recorder: Recorder
) -> None:
    recorder.record(STARTED, event)
    assert (recorder.span().attributes or {})["flowworker.outcome"] == outcome
    assert recorder.span().status.status_code is StatusCode.UNSET


def test_a_traceparent_in_the_message_makes_the_span_a_child_of_the_sender_s(recorder: Recorder) -> None:
    task = flow_task(headers=orjson.dumps({"traceparent": TRACEPARENT, "tracestate": "a=b"}))
    recorder.record(
        events.TaskStarted(worker=WORKER, task=task),
        events.TaskStopped(worker=WORKER, task=task, duration=1.0, output=b"1"),
    )
    span = recorder.span()
    assert span.parent is not None
    assert span.context is not None
    assert trace.format_trace_id(span.context.trace_id) == "0af7651916cd43dd8448eb211c80319c"
    assert trace.format_span_id(span.parent.span_id) == "b7ad6b7169203331"
    assert span.context.trace_state.get("a") == "b"


@pytest.mark.parametrize(
    "headers",
    [None, b"{}", b"[]", b"null", b'"traceparent"', b'{"traceparent": 5}', b'{"traceparent": "junk"}', b"{traceparent"],
)
def test_headers_without_a_usable_traceparent_start_a_new_trace(headers: bytes | None, recorder: Recorder) -> None:
    recorder.record(events.TaskStarted(worker=WORKER, task=flow_task(headers=headers)), STOPPED)
    assert recorder.span().parent is None


def test_only_the_two_headers_of_w3c_are_read() -> None:
    headers = orjson.dumps({"traceparent": "x", "tracestate": 1, "baggage": "y"})
    assert trace_headers(headers) == {"traceparent": "x"}


def test_what_the_handler_does_is_inside_the_span_and_nothing_else_is(recorder: Recorder) -> None:
    context = contextvars.copy_context()
    context.run(recorder.subscriber, STARTED)
    inside = context.run(trace.get_current_span).get_span_context()
    recorder.record(STOPPED)
    assert inside == recorder.span().context
    assert not trace.get_current_span().get_span_context().is_valid


def test_an_end_without_a_start_is_ignored(recorder: Recorder) -> None:
    recorder.record(STOPPED, task_failed())
    with pytest.raises(ValueError, match="not enough values"):
        recorder.span()


def test_two_attempts_of_one_message_are_two_spans_even_while_both_are_open(recorder: Recorder) -> None:
    second = flow_task(attempt=2)
    recorder.record(STARTED, events.TaskStarted(worker=WORKER, task=second))
    recorder.record(events.TaskStopped(worker=WORKER, task=second, duration=1.0, output=b"1"))
    assert (recorder.span().attributes or {})["flowworker.attempt"] == 2


def test_a_worker_that_stops_leaves_no_span_open(recorder: Recorder) -> None:
    recorder.record(STARTED, events.WorkerStopped(worker=WORKER, duration=1.0, reason="killed"))
    assert "flowworker.outcome" not in (recorder.span().attributes or {})


def test_every_event_is_taken(recorder: Recorder) -> None:
    recorder.record(*ALL_EVENTS)


def test_the_exporter_takes_its_service_name_from_the_standard_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = otlp_provider("worker")
    assert provider.resource.attributes["service.name"] == "worker"
    provider.shutdown()
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    named = otlp_provider("worker")
    assert named.resource.attributes["service.name"] == "shop"
    named.shutdown()


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Recorder().tracer
    real_import = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(f"No module named {name!r}")
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"pip install 'flowworker\[otel\]'"):
        TraceSubscriber(tracer)
    with pytest.raises(UsageError, match=r"pip install 'flowworker\[otel\]'"):
        otlp_provider()


def test_nothing_of_opentelemetry_is_imported_before_tracing_is_asked_for() -> None:
    code = "import sys, flowworker.telemetry.traces; sys.exit(any(m.startswith('opentelemetry') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
