"""Log lines: which events, how severe, with which ids, in which form."""

import asyncio
import contextvars
import io
import json
import logging
import timeit
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import structlog
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

from flowworker.database.records import ClaimedTask
from flowworker.redaction.plain_values import LONGEST_TEXT
from flowworker.telemetry.events import Event, LifecycleChanged, TaskReleased, TaskStarted
from flowworker.telemetry.json_lines import EVENT_LOGGER
from flowworker.telemetry.log_lines import fields_of, level_of, message_of
from flowworker.telemetry.logs import LineHandler, LogSubscriber, configure_logging
from flowworker.telemetry.steady import NAMES

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `configure_logging` changes is as before after the test."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    kept = {one: (one.level, one.propagate) for one in (root, *map(logging.getLogger, NAMES))}
    yield
    for one, (level, propagate) in kept.items():
        one.setLevel(level)
        one.propagate = propagate
        if one is not root:
            one.handlers.clear()
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def json_lines(restored: None) -> Lines:
    """Logging set to JSON at debug; the function returns what was written."""
    out = io.StringIO()
    configure_logging(level="debug", log_format="json", stream=out)
    return lambda: [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_that_cannot_be_formatted_holds_no_secret() -> None:
    class Broken(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            raise RuntimeError("no line")

    out = io.StringIO()
    handler = LineHandler(out, Broken())
    handler.emit(logging.makeLogRecord({"msg": "at %s", "args": ("postgresql://app:hunter2@db",), "levelname": "INFO"}))
    line = json.loads(out.getvalue())
    assert (line["event"], line["incomplete"]) == (
        "at postgresql://app:***@db",
        "RuntimeError while this line was made",
    )


@pytest.mark.parametrize("name", ["error", "reason", "exception", "stack"])
def test_a_field_of_megabytes_is_cut(name: str, json_lines: Lines) -> None:
    logging.getLogger(EVENT_LOGGER).info("told", extra={name: "password=hunter2 " + "word " * 500_000})
    (line,) = json_lines()
    assert line[name].startswith("password=*** word")
    assert len(line[name]) <= LONGEST_TEXT


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("event", ALL_EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_makes_one_json_line_with_the_worker_or_the_run(event: Event, json_lines: Lines) -> None:
    contextvars.copy_context().run(LogSubscriber(), event)
    (line,) = json_lines()
    assert line["event"] == message_of(event)
    assert line["level"] == logging.getLevelName(level_of(event)).lower()
    assert line["logger"] == "flowworker.events"
    assert line["timestamp"].endswith("Z")
    assert line["flow"] == "site_report"
    assert line.get("worker") == "site-1" or line["run_id"] == str(RUN_ID)


def keep_only_ours() -> logging.Handler:
    """Take pytest's handlers from our loggers, as nothing else looks at records where a worker runs."""
    logger = logging.getLogger("flowworker")
    (ours,) = (handler for handler in logger.handlers if isinstance(handler, LineHandler))
    logger.handlers[:] = [ours]
    return ours


@pytest.mark.parametrize("event", ALL_EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_has_the_same_line_with_and_without_a_record(event: Event, json_lines: Lines) -> None:
    keep_only_ours()
    contextvars.copy_context().run(LogSubscriber(), event)
    records: list[logging.LogRecord] = []

    def make(*args: Any, **more: Any) -> logging.LogRecord:
        records.append(logging.LogRecord(*args, **more))
        return records[-1]

    logging.setLogRecordFactory(make)
    try:
        contextvars.copy_context().run(LogSubscriber(), event)
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    direct, recorded = [{**line, "timestamp": ""} for line in json_lines()]
    assert direct == recorded
    assert len(records) == 1


def test_who_looks_at_records_sees_those_of_events(json_lines: Lines) -> None:
    logger, seen = logging.getLogger(EVENT_LOGGER), list[str]()

    def see(record: logging.LogRecord) -> bool:
        seen.append(record.getMessage())
        return False

    handler = keep_only_ours()
    for filtered in (logger, handler):
        filtered.addFilter(see)
        LogSubscriber()(STOPPED)
        filtered.removeFilter(see)
    handler.setLevel(logging.ERROR)
    LogSubscriber()(STOPPED)
    assert seen == ["task completed"] * 2
    assert json_lines() == []


def test_a_task_line_has_the_ids_of_run_step_task_attempt_and_message() -> None:
    assert fields_of(STOPPED) == {
        "flow": "site_report",
        "worker": "site-1",
        "worker_id": WORKER.worker_id,
        "run_id": RUN_ID,
        "step": "fetch",
        "task_index": 3,
        "attempt": 1,
        "max_attempts": 3,
        "msg_id": 7,
        "duration": 0.25,
    }


def test_a_job_line_names_the_queue_and_no_run() -> None:
    fields = fields_of(TaskStarted(worker=QUEUE_WORKER, task=job()))
    assert fields["queue"] == "mail"
    assert fields["msg_id"] == 7
    assert fields.keys().isdisjoint({"flow", "run_id", "step", "task_index"})


@pytest.mark.parametrize("event", ALL_EVENTS, ids=lambda event: type(event).__name__)
def test_no_line_holds_a_payload_or_an_output(event: Event) -> None:
    assert "secret" not in repr(fields_of(event))


def test_a_failure_that_is_retried_is_a_warning_that_says_when() -> None:
    event = task_failed(retry_in=4.0)
    assert level_of(event) == logging.WARNING
    assert message_of(event) == "task failed, will be retried"
    assert fields_of(event)["retry_in"] == 4.0
    assert fields_of(event)["failure"] == "exception"


def test_a_failure_for_good_is_an_error_with_its_stack() -> None:
    event = task_failed(retry_in=None)
    assert level_of(event) == logging.ERROR
    assert "retry_in" not in fields_of(event)
    assert "ValueError: no such page" in fields_of(event)["exception"]


@pytest.mark.parametrize(
    ("state", "level"),
    [("starting", logging.DEBUG), ("running", logging.DEBUG), ("draining", logging.INFO), ("stopping", logging.INFO)],
)
def test_the_phases_of_a_shutdown_are_shown_and_other_states_only_at_debug(state: str, level: int) -> None:
    assert level_of(LifecycleChanged(worker=WORKER, previous="x", current=state, reason="")) == level


def test_an_embedded_worker_follows_the_logging_of_its_program(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        LogSubscriber()(STOPPED)
        LogSubscriber()(TaskReleased(worker=WORKER, task=flow_task(), reason="shutdown"))
    assert caplog.messages == ["task completed", "task given back"]
    assert vars(caplog.records[0])["run_id"] == RUN_ID


def test_details_of_a_start_cannot_hide_who_started(json_lines: Lines) -> None:
    LogSubscriber()(ALL_EVENTS[0])
    (line,) = json_lines()
    assert line["max_concurrency"] == 10
    assert line["worker"] == "site-1"


def test_lines_of_libraries_and_of_structlog_come_out_the_same_way(json_lines: Lines) -> None:
    logging.getLogger("some.library").warning("pool of %s is full", 5, extra={"size": 5})
    structlog.get_logger("app").warning("pool is full", size=5)
    library, app = json_lines()
    assert library["event"] == "pool of 5 is full"
    assert library["size"] == app["size"] == 5
    assert library.keys() == app.keys()


def test_text_in_any_field_and_at_any_depth_is_without_its_passwords(json_lines: Lines) -> None:
    deep: list[object] = ["postgres://app:hunter2@db/main"]
    for _ in range(20):
        deep = [deep]
    extra = {"dsn": "postgres://app:hunter2@db/main", "given": [{"text": "password=hunter2"}], "deep": deep}
    logging.getLogger("app").warning("connecting", extra=extra)
    (line,) = json_lines()
    assert "hunter2" not in json.dumps(line)
    assert line["dsn"] == "postgres://app:***@db/main"


async def test_lines_written_by_a_handler_carry_the_ids_of_its_task(json_lines: Lines) -> None:
    async def handler() -> None:
        logging.getLogger("app").info("fetching", extra={"attempt": "mine"})

    logging.getLogger("app").info("before")
    context = contextvars.copy_context()
    context.run(LogSubscriber(), STARTED)
    await asyncio.get_running_loop().create_task(handler(), context=context)
    logging.getLogger("app").info("after")
    lines = {line["event"]: line for line in json_lines()}
    assert lines["fetching"]["run_id"] == str(RUN_ID)
    assert lines["fetching"]["task_index"] == 3
    assert lines["fetching"]["attempt"] == "mine"
    assert "run_id" not in lines["before"]
    assert "run_id" not in lines["after"]


class Watched(ClaimedTask):
    """Weak references to it are possible."""


def test_a_context_that_a_handler_has_left_behind_keeps_no_input(json_lines: Lines) -> None:
    task = Watched(**{field.name: getattr(STARTED.task, field.name) for field in fields(ClaimedTask)})
    watched, context = weakref.ref(task), contextvars.copy_context()
    context.run(LogSubscriber(), replace(STARTED, task=task))
    del task
    context.run(logging.getLogger("app").info, "later")
    assert json_lines()[-1]["run_id"] == str(RUN_ID)
    assert watched() is None


def test_an_exception_becomes_text_without_the_password_in_it(json_lines: Lines) -> None:
    try:
        raise ConnectionError("cannot reach postgres://app:hunter2@db/main")
    except ConnectionError:
        logging.getLogger("app").exception("no database, password=hunter2")
    (line,) = json_lines()
    assert "ConnectionError: cannot reach postgres://app:***@db/main" in line["exception"]
    assert "hunter2" not in json.dumps(line)


def test_warnings_of_python_become_lines(json_lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("old thing", stacklevel=1)
    (line,) = json_lines()
    assert line["logger"] == "py.warnings"
    assert "old thing" in line["event"]


def test_what_json_does_not_know_becomes_text(json_lines: Lines) -> None:
    logging.getLogger("app").warning("odd", extra={"thing": {1: object()}})
    (line,) = json_lines()
    assert line["thing"]["1"].startswith("<object object")


def test_nothing_below_the_level_is_written(restored: None) -> None:
    out = io.StringIO()
    configure_logging(level="warning", log_format="json", stream=out)
    LogSubscriber()(STOPPED)
    structlog.get_logger("app").info("hello")
    assert out.getvalue() == ""


def test_configuring_again_replaces_the_first_configuration(restored: None) -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(stream=first)
    configure_logging(stream=second)
    logging.getLogger("app").info("hello")
    assert first.getvalue() == ""
    assert second.getvalue().count("hello") == 1


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("console", io.StringIO, False),
    ],
)
def test_the_form_follows_the_setting_and_else_the_terminal(
    log_format: Any, stream: type[io.StringIO], is_json: bool, restored: None
) -> None:
    out = stream()
    configure_logging(log_format=log_format, stream=out)
    LogSubscriber()(STOPPED)
    assert out.getvalue().startswith("{") is is_json
    assert "task completed" in out.getvalue()


def test_colours_are_for_terminals_only(restored: None) -> None:
    out, terminal = io.StringIO(), Terminal()
    for stream in (out, terminal):
        configure_logging(log_format="console", stream=stream)
        LogSubscriber()(STOPPED)
    assert "\x1b[" not in out.getvalue()
    assert "\x1b[" in terminal.getvalue()


def test_a_terminal_shows_the_stack_of_a_failure_as_lines(restored: None) -> None:
    out = io.StringIO()
    configure_logging(log_format="console", stream=out)
    LogSubscriber()(task_failed())
    assert "\nTraceback (most recent call last):\n" in out.getvalue()


def test_a_filtered_event_costs_a_small_part_of_a_written_one(restored: None) -> None:
    """Ratios, because the machine may be slow: filtering is at least ten times cheaper than writing."""
    configure_logging(level="info", log_format="json", stream=io.StringIO())
    subscriber = LogSubscriber(logging.getLogger("flowworker.test_cost"))
    poll = ALL_EVENTS[4]
    filtered = min(timeit.repeat(lambda: subscriber(poll), number=200, repeat=5))
    written = min(timeit.repeat(lambda: subscriber(STOPPED), number=200, repeat=5))
    assert filtered * 10 < written


def test_lines_are_written_under_one_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, EVENT_LOGGER):
        LogSubscriber()(STOPPED)
    assert [record.name for record in caplog.records] == ["flowworker.events"]
