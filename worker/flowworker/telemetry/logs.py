"""Structured logs: a subscriber that tells the events, and the set-up that gives every log line one form.

The subscriber writes to the standard library's logger `flowworker.events` with the ids as `extra`, so an embedded
worker follows whatever logging its program has configured. `configure_logging` is for processes that are ours: it
renders these lines, those of libraries and those of handlers alike, as JSON or for a terminal.
"""

import logging
import sys
from typing import Literal, TextIO

from flowworker.telemetry import events
from flowworker.telemetry.events import Event
from flowworker.telemetry.json_lines import JsonFormatter, running
from flowworker.telemetry.log_lines import fields_of, level_of, message_of

EVENT_LOGGER = "flowworker.events"


class LogSubscriber:
    """Writes a line for every event, at a level that suits it; a filtered event costs a comparison."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        """Write to the logger given, else to `flowworker.events`."""
        self._logger = logger if logger is not None else logging.getLogger(EVENT_LOGGER)

    def __call__(self, event: Event) -> None:
        """Log one event."""
        if isinstance(event, events.TaskStarted):
            running.set(event)
        level = level_of(event)
        if self._logger.isEnabledFor(level):
            # Not `Logger.log`: its search for the caller's line, which is always this one, costs as much as the rest.
            record = logging.getLogRecordFactory()(self._logger.name, level, "", 0, message_of(event), None, None)
            record.__dict__.update(fields_of(event))
            self._logger.handle(record)


def configure_logging(
    *, level: str = "info", log_format: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None
) -> None:
    """Send all log lines of this process, whoever writes them, to one stream in one form.

    Replaces the handlers of the root logger, and the configuration of structlog where the program has imported it.
    May be called again.

    Args:
        level: least severe level that is written: debug, info, warning or error.
        log_format: auto is console on a terminal and json elsewhere.
        stream: standard error unless given.
    """
    out = stream if stream is not None else sys.stderr
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(_terminal_formatter(out) if console else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    if "structlog" in sys.modules:
        from flowworker.telemetry.structured import configure_structlog

        configure_structlog(console=console)


def _terminal_formatter(out: TextIO) -> logging.Formatter:
    from flowworker.telemetry.structured import terminal_formatter

    return terminal_formatter(out)
