"""Log lines: ours by structlog, those of libraries by the standard library, all in one form and without secrets."""

import logging
import sys
from collections.abc import Sequence
from typing import Any, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor

from flowworker.redaction.plain_values import Plain, safe_fields, shown
from flowworker_operator.domain.words import printable
from flowworker_operator.settings import LogFormat, LogLevel

_LEVELS = {
    "kopf": logging.WARNING,  # its ordinary lines are about every single object
    "kopf._core.reactor.running": logging.ERROR,  # it warns that it does not get the signals, which are ours
    "asyncio": logging.WARNING,
}

_REQUESTS = ("kopf._cogs.clients.", "kopf._core.reactor.observation")
"""Loggers of kopf that report failed requests."""


def configure_logging(*, level: LogLevel, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to one stream.

    Args:
        level: least severe level that is written.
        log_format: for machines or for people.
        stream: standard error unless given.
    """
    out = stream if stream is not None else sys.stderr
    shared, renderer = _processors(log_format), _renderer(log_format, out)
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _make_safe, renderer],
        )
    )
    handler.addFilter(_calm)
    handler.addFilter(_with_words)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    for name, least in _LEVELS.items():
        logging.getLogger(name).setLevel(least)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _calm(record: logging.LogRecord) -> bool:
    """A request of a watch that fails is tried again, and the re-list sees what it misses: no error of ours."""
    if record.name.startswith(_REQUESTS) and record.levelno == logging.ERROR:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _with_words(record: logging.LogRecord) -> bool:
    """A message that its arguments do not fit is written without them; logging would write a traceback with all."""
    if isinstance(cast("object", record.msg), dict):  # structlog's own
        return True
    try:
        record.getMessage()
    except Exception:  # noqa: BLE001 - the `__str__` of anything may raise anything
        record.msg, record.args = f"{shown(record.msg)} (its arguments do not fit it)", ()
    return True


def _processors(log_format: LogFormat) -> Sequence[Processor]:
    console = log_format == "console"
    return (
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
        structlog.processors.format_exc_info,
    )


def _renderer(log_format: LogFormat, out: TextIO) -> Processor:
    if log_format == "console":
        return structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(serializer=_to_json)


def _make_safe(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Any object may be in a line, also of kopf: none costs the line, brings a secret into it, or moves a terminal."""
    return {name: _printable(value) for name, value in safe_fields(line).items()}


def _printable(value: Plain) -> Plain:
    match value:
        case str():
            return printable(value)
        case list():
            return [_printable(one) for one in value]
        case dict():
            return {printable(name): _printable(one) for name, one in value.items()}
        case _:
            return value


def _to_json(line: Any, **_: object) -> str:
    return orjson.dumps(line).decode()
