"""Structured logs: a subscriber that logs the events, and the set-up that gives every log line one form.

The subscriber writes to the standard library's logger `flowworker.events` with the ids as `extra`, so an embedded
worker follows whatever logging its program has configured. `configure_logging` is for processes that are ours: it
renders these lines, those of libraries and those of handlers alike, as JSON or for a terminal.
"""

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from flowworker.redaction.plain_values import name_of, safe_fields
from flowworker.telemetry import events
from flowworker.telemetry.events import Event
from flowworker.telemetry.json_lines import EVENT_LOGGER, JsonFormatter, message_of_record, running, to_json
from flowworker.telemetry.late_structlog import forget, when_structlog_is_imported
from flowworker.telemetry.line_writer import LineWriter, descriptor_of
from flowworker.telemetry.log_lines import fields_of, level_of, message_of, task_fields
from flowworker.telemetry.steady import steady
from flowworker.telemetry.uncaught import log_uncaught_exceptions

event_logger = logging.getLogger(EVENT_LOGGER)


class LogSubscriber:
    """Writes a line for every event, at a level that suits it; a filtered event costs a comparison."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        """Write to the logger given, else to `flowworker.events`."""
        self._logger = logger if logger is not None else event_logger

    def __call__(self, event: Event) -> None:
        """Log one event."""
        if isinstance(event, events.TaskStarted):
            running.set(task_fields(event.worker, event.task))
        level = level_of(event)
        if not self._logger.isEnabledFor(level):
            return
        if (ours := _only_ours(self._logger)) is not None and level >= ours.level:
            ours.emit_event(message_of(event), level, fields_of(event))
        else:
            # Not `Logger.log`: its search for the caller's line, which is always this one, costs as much as the rest.
            record = logging.getLogRecordFactory()(self._logger.name, level, "", 0, message_of(event), None, None)
            record.__dict__.update(fields_of(event))
            self._logger.handle(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogForm:
    """How the lines of a process look; its child processes follow it."""

    level: str
    console: bool


class LineHandler(logging.Handler):
    """Writes each record as one line, and something in its place when it cannot be made into one."""

    def __init__(self, out: TextIO, formatter: logging.Formatter) -> None:
        """Write to a stream."""
        super().__init__()
        self.setFormatter(formatter)
        self._out = out
        descriptor = descriptor_of(out)
        self._writer = None if descriptor is None else LineWriter(descriptor, lost=_lost)

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self._line(record))

    def _write(self, line: str) -> None:
        if self._writer is not None:
            self._writer.write(line)
            return
        with suppress(OSError, ValueError):  # the stream is closed: logging must not stop the caller
            self._out.write(line + "\n")

    def emit_event(self, message: str, level: int, fields: Mapping[str, Any]) -> None:
        """Write the line of an event, whose values are ours and so fit into one."""
        assert isinstance(self.formatter, JsonFormatter)
        line = self.formatter.format_event(message, level, time.time(), fields)
        with self.lock or nullcontext():
            self._write(line)

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except BaseException as error:  # noqa: BLE001 - logging would print the record's arguments, secrets included
            fields = {"event": message_of_record(record), "logger": record.name, "level": record.levelname.lower()}
            return to_json(safe_fields(fields | {"incomplete": f"{name_of(type(error))} while this line was made"}))


def _only_ours(logger: logging.Logger) -> LineHandler | None:
    """The handler that alone would get a record of this logger and write it as JSON, where nothing else looks at it."""
    parent = logger.parent
    if logger.name != EVENT_LOGGER or logger.handlers or logger.filters or not logger.propagate:
        return None
    if parent is None or parent.propagate or len(parent.handlers) != 1:
        return None
    if logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    (handler,) = parent.handlers
    if isinstance(handler, LineHandler) and not handler.filters and isinstance(handler.formatter, JsonFormatter):
        return handler
    return None


def configure_logging(
    *, level: str = "info", log_format: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None
) -> None:
    """Send all log lines of this process, from every logger, to one stream in one form.

    Replaces the handlers of the root logger, and the configuration of structlog, now or when it is imported. From here
    on our own lines survive whatever a module does to the configuration of logging. May be called again.

    Args:
        level: least severe level that is written: debug, info, warning or error.
        log_format: auto is console on a terminal and json elsewhere.
        stream: standard error unless given.
    """
    out = stream if stream is not None else sys.stderr
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    apply_form(LogForm(level=level.upper(), console=console), out)


def apply_form(form: LogForm, stream: TextIO | None = None) -> None:
    """Do what `configure_logging` does, with its choices made."""
    global _form  # logging is one for the process, and so is its form
    _form = form
    forget()  # the formatter below imports structlog itself
    out = stream if stream is not None else sys.stderr
    handler = LineHandler(out, _terminal_formatter(out) if form.console else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=form.level, force=True)
    steady(handler, form.level)
    logging.captureWarnings(capture=True)
    log_uncaught_exceptions()
    when_structlog_is_imported(lambda: _configure_structlog(console=form.console))


def current_form() -> LogForm | None:
    """What `configure_logging` was called with last; None where logging is the program's own affair."""
    return _form


_form: LogForm | None = None


def _configure_structlog(*, console: bool) -> None:
    from flowworker.telemetry.structured import configure_structlog

    configure_structlog(console=console)


def _terminal_formatter(out: TextIO) -> logging.Formatter:
    from flowworker.telemetry.structured import terminal_formatter

    return terminal_formatter(out)


def _lost(count: int) -> str:
    text = f"{count} log lines were dropped: their reader did not keep up"
    return to_json({"event": text, "logger": __name__, "level": "warning"})
