"""Log lines: ours by structlog, those of libraries by the standard library, all in one form and without secrets."""

import logging
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from flowworker.redaction import redact
from flowworker_operator.settings import LogFormat, LogLevel

_LEVELS = {
    "kopf": logging.WARNING,  # its ordinary lines are about every single object
    "kopf._core.reactor.running": logging.ERROR,  # it warns that it does not get the signals, which are ours
    "asyncio": logging.WARNING,
}

_REQUESTS = ("kopf._cogs.clients.", "kopf._core.reactor.observation")
"""Loggers under which kopf tells of requests that failed."""


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
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_calm)
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


def _processors(log_format: LogFormat) -> Sequence[Processor]:
    console = log_format == "console"
    return (
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if console else "iso", utc=not console),
        structlog.processors.format_exc_info,
        _hide_secrets,
    )


def _renderer(log_format: LogFormat, out: TextIO) -> Processor:
    if log_format == "console":
        return structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer(serializer=_to_json)


def _hide_secrets(_logger: object, _method: str, line: EventDict) -> EventDict:
    return {name: redact(value) if isinstance(value, str) else value for name, value in line.items()}


def _to_json(line: Any, **_: object) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z).decode()
