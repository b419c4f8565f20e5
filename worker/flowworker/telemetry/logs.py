"""Structured logs: a subscriber that tells the events, and the set-up that gives every log line one form.

The subscriber writes to the standard library's logger `flowworker.events` with the ids as `extra`, so an embedded
worker follows whatever logging its program has configured. `configure_logging` is for processes that are ours: it
renders these lines, those of libraries and those of handlers alike, as JSON or for a terminal.
"""

import logging
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from flowworker.redaction import redact
from flowworker.telemetry import events
from flowworker.telemetry.events import Event
from flowworker.telemetry.log_lines import fields_of, level_of, message_of, task_fields

EVENT_LOGGER = "flowworker.events"

_running: ContextVar[events.TaskStarted | None] = ContextVar("flowworker_running_task", default=None)
"""The task whose handler runs in this context; gives the log lines of handlers and libraries their ids."""

_TEXTS = ("event", "error", "reason", "exception", "stack")
"""Fields that carry text from elsewhere, and so perhaps a password."""


class LogSubscriber:
    """Writes a line for every event, at a level that suits it; a filtered event costs a comparison."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        """Write to the logger given, else to `flowworker.events`."""
        self._logger = logger if logger is not None else logging.getLogger(EVENT_LOGGER)

    def __call__(self, event: Event) -> None:
        """Log one event."""
        if isinstance(event, events.TaskStarted):
            _running.set(event)
        level = level_of(event)
        if self._logger.isEnabledFor(level):
            self._logger.log(level, message_of(event), extra=fields_of(event))


def configure_logging(
    *, level: str = "info", log_format: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None
) -> None:
    """Send all log lines of this process, whoever writes them, to one stream in one form.

    Replaces the handlers of the root logger and the configuration of structlog. May be called again.

    Args:
        level: least severe level that is written: debug, info, warning or error.
        log_format: auto is console on a terminal and json elsewhere.
        stream: standard error unless given.
    """
    out = stream if stream is not None else sys.stderr
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    shared = _shared_processors(console=console)
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_render(out, console=console)],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _shared_processors(*, console: bool) -> list[Processor]:
    """What a line goes through before it is rendered, whether structlog or the standard library wrote it."""
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False) if console else _utc_stamp()
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _add_task,
        stamp,
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]


def _utc_stamp() -> structlog.processors.TimeStamper:
    return structlog.processors.TimeStamper(fmt="iso", utc=True)


def _render(out: TextIO, *, console: bool) -> Sequence[Processor]:
    if console:
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]
    return [structlog.processors.JSONRenderer(serializer=_to_json)]


def _to_json(fields: Any, **_: object) -> str:
    return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _add_task(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Ids of the task whose handler writes; lines that bring their own keep them."""
    started = _running.get()
    return line if started is None else {**task_fields(started.worker, started.task), **line}


def _hide_secrets(_logger: object, _method: str, line: EventDict) -> EventDict:
    for name in _TEXTS:
        text = line.get(name)
        if isinstance(text, str):
            line[name] = redact(text)
    return line
