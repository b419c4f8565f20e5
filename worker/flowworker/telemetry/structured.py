"""What structlog does for us: lines for people on a terminal, and lines of programs that log with structlog.

Imported only where one of the two is wanted: it costs 4 MiB of memory.
"""

import logging
from copy import copy
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

from flowworker.redaction.plain_values import safe_fields
from flowworker.telemetry.json_lines import message_of_record, running


def terminal_formatter(out: TextIO) -> logging.Formatter:
    """Formats records for people; in colours where the stream is a terminal."""
    renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    return _TerminalFormatter(
        foreign_pre_chain=_processors(console=True),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


class _TerminalFormatter(structlog.stdlib.ProcessorFormatter):
    """Also formats a record whose arguments do not fit its message."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(cast("object", record.msg), dict):  # structlog has made the line already
            return super().format(record)
        safe = copy(record)
        safe.msg, safe.args = message_of_record(record), None
        return super().format(safe)


def configure_structlog(*, console: bool) -> None:
    """Send what is logged with structlog through the standard library, finished but for its rendering."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *_processors(console=console),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _processors(*, console: bool) -> list[Processor]:
    """What a line goes through before it is rendered, whether structlog or the standard library wrote it."""
    stamper = structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console)
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _add_task,
        stamper,
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]


def _add_task(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Ids of the task whose handler writes; lines that bring their own keep them."""
    ids = running.get()
    return line if ids is None else {**ids, **line}


def _hide_secrets(_logger: object, _method: str, line: EventDict) -> EventDict:
    kept = {name: value for name, value in line.items() if name in _OF_STRUCTLOG}
    return {**safe_fields({name: value for name, value in line.items() if name not in kept}), **kept}


_OF_STRUCTLOG = frozenset({"_record", "_from_structlog"})
"""Fields for structlog's own use, which it takes out before it renders a line."""
